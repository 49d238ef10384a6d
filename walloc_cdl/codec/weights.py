"""Weights from untrusted files, which are validated before a module uses them.

A configuration is checked before anything is built: its fields have ranges, and the modules are built on torch's meta
device, which allocates no memory, and receive the tensors of the file only if all names and shapes agree. The wavelet
filters in a file must be those of bior4.4, because the fast path has them built in.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from walloc_cdl.codec.config import FORMAT, FORMAT_VERSION
from walloc_cdl.errors import DamagedError, one_line
from walloc_cdl.json_files import parse_json

Module = TypeVar("Module", bound=nn.Module)


REMEDY = "restore or fit the codec again"


def config_from_bytes(files: dict[str, bytes], origin: str) -> dict[str, Any]:
    """Return the object in `config.json`; raise `DamagedError`, naming `origin`, unless its format is known."""
    try:
        config = parse_json(files["config.json"])
    except (ValueError, KeyError) as error:
        raise DamagedError(f"{origin}: config.json cannot be read ({one_line(error)}); {REMEDY}") from error
    header = (config.get("format"), config.get("format_version")) if isinstance(config, dict) else None
    if header != (FORMAT, FORMAT_VERSION) or type(config["format_version"]) is not int:
        raise DamagedError(
            f"{origin}: config.json is not the configuration of a codec of format version {FORMAT_VERSION}; {REMEDY}"
        )
    return config


def tensors_from_bytes(files: dict[str, bytes], origin: str) -> dict[str, Tensor]:
    """Return the tensors of `model.safetensors`; raise `DamagedError`, naming `origin`, if it cannot be read."""
    try:
        return load(files["model.safetensors"])
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise DamagedError(f"{origin}: model.safetensors cannot be read ({one_line(error)}); {REMEDY}") from error


def tensors_to_bytes(module: nn.Module) -> bytes:
    """Serialize the weights of a module as safetensors; the same weights give the same bytes."""
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()})


def build_with_weights(
    cls: type[Module], config: object, tensors: dict[str, Tensor], origin: str, *, file: str = "model.safetensors"
) -> Module:
    """Return `cls(config)` with these weights as float32; nothing is allocated unless all shapes agree.

    `file` is the source of the tensors in messages. Raises `DamagedError` for tensors that are missing, unexpected or
    not finite or have other shapes, and for wavelet filters other than bior4.4.
    """
    with torch.device("meta"):
        module = cls(config)
    expected = module.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        found_shape = tuple(tensors[name].shape) if name in tensors else "nothing"
        expected_shape = tuple(expected[name].shape) if name in expected else "nothing"
        if found_shape != expected_shape:
            raise DamagedError(
                f"{origin}: {file} has {str(found_shape)[:60]} for {_shown(name)}, expected {expected_shape}"
            )
    weights = {name: _finite(tensor, name, origin, file) for name, tensor in sorted(tensors.items())}
    module.load_state_dict(weights, assign=True)
    _require_known_filters(module, origin, file)
    return module


def _finite(tensor: Tensor, name: str, origin: str, file: str) -> Tensor:
    if not tensor.is_floating_point():
        raise DamagedError(f"{origin}: {name} in {file} is of type {tensor.dtype}, expected floating point")
    weight = tensor.to(torch.float32).contiguous()
    if not torch.isfinite(weight).all():
        raise DamagedError(f"{origin}: {name} in {file} has values that are not finite")
    return weight


def _require_known_filters(module: nn.Module, origin: str, file: str) -> None:
    """Raise `DamagedError` for wavelet filters other than those that are built into the fast path."""
    for part in ("wt", "iwt"):
        level = getattr(module, part, None)
        if level is None:
            continue
        found, known = level.state_dict(), type(level)().state_dict()
        for name, taps in known.items():
            if not torch.allclose(found[name], taps, rtol=0, atol=1e-6):
                raise DamagedError(f"{origin}: {part}.{name} in {file} is not the filter of bior4.4; use another codec")


def _shown(name: str) -> str:
    """Return a tensor's name for a message; a name in an untrusted file may be long or unprintable."""
    return name if name.isprintable() and len(name) <= 100 else repr(name[:60])
