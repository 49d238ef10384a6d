"""Loading of published WaLLoC checkpoints, whose configuration is in a `.json` next to the `.pth`, or inside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from walloc_cdl.addresses import local_path
from walloc_cdl.canonical import sha256_file
from walloc_cdl.codec.config import require_bool
from walloc_cdl.codec.families.walloc import WallocCodec, WallocConfig
from walloc_cdl.codec.families.walloc_1d import WallocCodec1D, WallocConfig1D
from walloc_cdl.codec.families.walloc_2d import WallocCodec2D, WallocConfig2D
from walloc_cdl.codec.families.walloc_residual import ResidualCodec2D, ResidualConfig2D
from walloc_cdl.codec.io.torch_archive import TorchCheckpoint, read_torch_checkpoint
from walloc_cdl.codec.weights import build_with_weights
from walloc_cdl.errors import CallError, DamagedError, one_line
from walloc_cdl.json_files import parse_json

MAX_CONFIG_BYTES = 1 << 20


def load_published(
    checkpoint: str | os.PathLike[str],
    config: str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    sample_rate: int | None = None,
) -> WallocCodec:
    """Return the codec of a published checkpoint without executing any code in it.

    `config` is its JSON file; the default is the file of the same name next to it, or the object inside it. `name`
    defaults to the name of the file. `sample_rate` in Hz, which published files lack, applies to audio codecs. Raises
    `CallError` for a missing file and `DamagedError` for an invalid one.
    """
    path = local_path(checkpoint)
    if not path.is_file():
        raise CallError(f"{path}: no such checkpoint; give a .pth file")
    config_path = local_path(config) if config is not None else path.with_suffix(".json")
    if config is not None and not config_path.is_file():
        raise CallError(f"{config_path}: no such file; give the checkpoint's .json, or omit it")
    found = read_torch_checkpoint(path)
    if config_path.is_file():
        fields, where = _read_json(config_path), str(config_path)
    elif found.config is not None:
        fields, where = found.config, f"{path}: its configuration"
    else:
        raise CallError(f"{path} has no configuration; put {config_path.name} next to it, or give its .json")
    fit_info = {"method": "published", "file": path.name, "sha256": sha256_file(path)}
    common = {"name": name or path.stem, "fit": fit_info}
    try:
        cls, built = _codec_class_and_config(found, fields, where, common, sample_rate)
    except DamagedError:
        raise
    except CallError as error:
        raise DamagedError(f"{where}: {error}") from error
    if sample_rate is not None and not isinstance(built, WallocConfig1D):
        raise CallError(f"a sample rate of {sample_rate} for {path}, which is a codec for images; omit it")
    return build_with_weights(cls, built, found.state, str(path), file="the checkpoint")


def _read_json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise DamagedError(f"{path}: {path.stat().st_size:,} bytes; a configuration has at most {MAX_CONFIG_BYTES:,}")
    try:
        fields = parse_json(path.read_bytes())
    except ValueError as error:
        raise DamagedError(f"{path}: not JSON ({one_line(error, 120)}); get the file again") from error
    if not isinstance(fields, dict):
        raise DamagedError(f"{path}: found a {type(fields).__name__}, expected an object; get the file again")
    return fields


def _codec_class_and_config(
    found: TorchCheckpoint, fields: dict[str, Any], where: str, common: dict[str, Any], sample_rate: int | None
) -> tuple[type[WallocCodec], WallocConfig]:
    """Return the class of the tensors and its configuration; fields of the training are ignored."""
    names = found.state.keys()
    common = {
        **common,
        "channels": _get(fields, "channels", where),
        "levels": _get(fields, "J", where),
        "latent_channels": _get(fields, "latent_dim", where),
        "bits": _get(fields, "latent_bits", where),
    }
    if "encoders.0.weight" in names:
        return ResidualCodec2D, ResidualConfig2D(**common, stages=_get(fields, "num_stages", where))
    lightweight = fields.get("lightweight_encode", "encoder.0.weight" in names)
    require_bool(lightweight, "lightweight_encode")
    if not lightweight:
        common |= {"encoder": "full", "encoder_width": _get(fields, "Ne", where)}
    if "decoder.1.weight" not in names:
        common |= {"decoder": "network", "decoder_width": _get(fields, "Nd", where)}
    if "wt.h0" in names:
        post_filter = fields.get("post_filter", "post.weight" in names)
        return WallocCodec1D, WallocConfig1D(**common, padding=1, post_filter=post_filter, sample_rate=sample_rate)
    if "wt.h0_col" in names:
        return WallocCodec2D, WallocConfig2D(**common)
    raise DamagedError(
        f"{where}: the checkpoint next to it has neither the tensor wt.h0 nor wt.h0_col, so it has another "
        "architecture; give a checkpoint of WaLLoC"
    )


def _get(fields: dict[str, Any], name: str, where: str) -> Any:
    if name not in fields:
        raise DamagedError(f"{where}: field {name!r} is missing; a configuration of WaLLoC has it")
    return fields[name]
