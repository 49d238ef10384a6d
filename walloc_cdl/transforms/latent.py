"""`Latent`: the float latent as a tensor type of torchvision, whose transforms do what is right to it or raise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional
from torchvision.transforms.v2.functional import register_kernel
from torchvision.tv_tensors import TVTensor

from walloc_cdl.data import LatentDataset
from walloc_cdl.errors import CallError
from walloc_cdl.kernels.gpu.lookup import lookup_codes
from walloc_cdl.kernels.gpu.unpack import lookup_rows
from walloc_cdl.planes.levels import channel_values
from walloc_cdl.spec import LatentSpec
from walloc_cdl.transforms.operators import Operators
from walloc_cdl.transforms.torchvision_kernels import KERNELS, QUERIES, REFUSED


class Latent(TVTensor):
    """Values of latents of images, float (…, K, h, w), with their spec.

    Transforms of `torchvision.transforms.v2` flip, crop by whole latents, and change brightness and contrast, each as
    exactly as `walloc_cdl.transforms.operations` says. Others raise `CallError` with what to use instead; torchvision
    alone would return other types unchanged. Like every `TVTensor` it becomes a plain tensor in other operations, and
    in the batches of a `DataLoader`. `operators` are in the units of the data.

    Raises `CallError` for data of another shape, for codes and other integers, and for audio.

    >>> latent = Latent.of_codes(ds, ds[0].codes[None])                              # doctest: +SKIP
    >>> torchvision.transforms.v2.RandomHorizontalFlip(1.0)(latent)                 # doctest: +SKIP
    """

    spec: LatentSpec
    operators: Operators | None

    def __new__(
        cls,
        data: Any,
        *,
        spec: LatentSpec,
        operators: Operators | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | int | None = None,
        requires_grad: bool | None = None,
    ) -> Latent:
        """Take anything that `torch.as_tensor` takes; see the class."""
        tensor = cls._to_tensor(data, dtype=dtype, device=device, requires_grad=requires_grad)
        if spec.kind != "image":
            raise CallError(f"a Latent of {spec.kind}; transforms of torchvision are for images")
        if not tensor.is_floating_point() or tensor.ndim < 3 or tensor.shape[-3] != spec.latent_channels:
            raise CallError(
                f"latents are {tensor.dtype} {list(tensor.shape)}, expected float [..., {spec.latent_channels}, h, w]; "
                "Latent.of_codes makes them from codes"
            )
        return _wrapped(tensor, spec, operators)

    @classmethod
    def of_codes(cls, dataset: LatentDataset, codes: Tensor) -> Latent:
        """Return the values of codes, uint8 (B, K, h, w), or rows (B, R), of a data set, with its operators.

        A data set without operators gives latents without them, which can be cropped only.
        """
        spec, levels = dataset.spec, dataset.levels
        table = torch.from_numpy(channel_values(spec, levels)).float().to(codes.device)
        if spec.planes is not None and codes.ndim == 2:
            values = lookup_rows(codes, table, spec.planes, dataset.layout.grid)
        else:
            values = lookup_codes(codes, table)
        operators = Operators(dataset.operators) if dataset.has_operators else None
        return _wrapped(values, spec, operators)

    @classmethod
    def _wrap_output(cls, output: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """Keep the spec where torchvision keeps the type: `clone`, `to`, `detach`, `requires_grad_`."""
        source = next((each for each in args if isinstance(each, Latent)), None)
        if source is None or not isinstance(output, Tensor):
            return output
        return _wrapped(output, source.spec, source.operators)

    def __deepcopy__(self, memo: dict[int, Any]) -> Latent:
        """Copy the data; spec and operators are shared."""
        return _wrapped(super().__deepcopy__(memo), self.spec, self.operators)

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return self._make_repr(spec=self.spec)


def _wrapped(tensor: Tensor, spec: LatentSpec, operators: Operators | None) -> Latent:
    latent = tensor.as_subclass(Latent)
    latent.spec, latent.operators = spec, operators
    return latent


def _register(name: str, kernel: Callable[..., Any]) -> None:
    if hasattr(functional, name):  # not all versions have all
        register_kernel(getattr(functional, name), Latent)(kernel)


def _transforming(kernel: Callable[..., Tensor]) -> Callable[..., Latent]:
    def apply(latent: Latent, *args: Any, **kwargs: Any) -> Latent:
        result = kernel(latent.as_subclass(Tensor), latent.operators, *args, **kwargs)
        return _wrapped(result, latent.spec, latent.operators)

    return apply


def _asking(query: Callable[[Tensor], Any]) -> Callable[[Latent], Any]:
    return lambda latent: query(latent.as_subclass(Tensor))


def _refusing(name: str, remedy: str) -> Callable[..., Any]:
    def refuse(latent: Latent, *args: Any, **kwargs: Any) -> Any:
        raise CallError(f"{name} is not right for latents, which are no pixels: {remedy}")

    return refuse


for _name, _kernel in KERNELS.items():
    _register(_name, _transforming(_kernel))
for _name, _query in QUERIES.items():
    _register(_name, _asking(_query))
for _name, _remedy in REFUSED.items():
    _register(_name, _refusing(_name, _remedy))
