"""Weights from untrusted files: names, shapes and values are checked before a module is built for them."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from walloc_cdl.codec.config import FORMAT, FORMAT_VERSION
from walloc_cdl.errors import DamagedError, one_line
from walloc_cdl.fields import parse_json

Module = TypeVar("Module", bound=nn.Module)


REMEDY = "restore or fit the codec again"


def config_from_bytes(files: dict[str, bytes], origin: str) -> dict[str, Any]:
    """The object in `config.json`, its format and version checked; `DamagedError`, naming `origin`, otherwise."""
    try:
        config = parse_json(files["config.json"])
    except (ValueError, KeyError) as error:
        raise DamagedError(f"{origin}: config.json cannot be read ({one_line(error)}); {REMEDY}") from error
    header = (config.get("format"), config.get("format_version")) if isinstance(config, dict) else None
    if header != (FORMAT, FORMAT_VERSION) or type(config["format_version"]) is not int:
        raise DamagedError(f"{origin}: config.json is not that of a codec of format version {FORMAT_VERSION}; {REMEDY}")
    return config


def tensors_from_bytes(files: dict[str, bytes], origin: str) -> dict[str, Tensor]:
    """The tensors of `model.safetensors`; `DamagedError`, naming `origin`, when it cannot be read."""
    try:
        return load(files["model.safetensors"])
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise DamagedError(f"{origin}: model.safetensors cannot be read ({one_line(error)}); {REMEDY}") from error


def tensors_to_bytes(module: nn.Module) -> bytes:
    """A module's weights as safetensors; the same weights give the same bytes."""
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()})


def build_with_weights(
    cls: type[Module], config: object, tensors: dict[str, Tensor], origin: str, *, file: str = "model.safetensors"
) -> Module:
    """`cls(config)` with these float32 weights; its modules are built without memory before the shapes agree.

    `file` names what the tensors come from. Raises `DamagedError` for missing, unexpected, misshapen
    or non-finite tensors, and for filters other than those that this program transforms with.
    """
    with torch.device("meta"):
        module = cls(config)
    expected = module.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        found = tuple(tensors[name].shape) if name in tensors else "nothing"
        wanted = tuple(expected[name].shape) if name in expected else "nothing"
        if found != wanted:
            raise DamagedError(f"{origin}: {file} has {str(found)[:60]} for {_shown(name)}, expected {wanted}")
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
    """The fast path has its filters built in; a file that says otherwise is of another codec."""
    for part in ("wt", "iwt"):
        level = getattr(module, part, None)
        if level is None:
            continue
        found, known = level.state_dict(), type(level)().state_dict()
        for name, taps in known.items():
            if not torch.allclose(found[name], taps, rtol=0, atol=1e-6):
                raise DamagedError(f"{origin}: {part}.{name} in {file} is not the filter of bior4.4; use another codec")


def _shown(name: str) -> str:
    """A tensor's name in a message; in an untrusted file it may be anything."""
    return name if name.isprintable() and len(name) <= 100 else repr(name[:60])
