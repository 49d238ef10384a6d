"""Which device and which precision to compute in."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager

import torch

from walloc_cdl.data.residency import open_device
from walloc_cdl.errors import unknown_name

PRECISIONS = ("auto", "bf16", "fp32")


def choose_device(asked: str | torch.device | None) -> torch.device:
    """The device asked for; for None the CUDA device if there is one, else the CPU."""
    if asked is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return open_device(asked)


def choose_precision(asked: str, device: torch.device) -> str:
    """`bf16` or `fp32`; `auto` is bf16 where the device has instructions for it.

    Emulated, as on a CPU with AVX2 only, bf16 takes some 15 times as long as fp32.
    """
    if asked not in PRECISIONS:
        raise unknown_name("precision", asked, PRECISIONS, f"choose one of {', '.join(PRECISIONS)}")
    if asked != "auto":
        return asked
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else _cpu_has_bf16()
    return "bf16" if fast else "fp32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context to run a model in, for a `precision` from `choose_precision`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def _cpu_has_bf16() -> bool:
    """Whether oneDNN takes bf16 here and the CPU multiplies it in hardware (AVX512-BF16, AMX, or Arm's BF16)."""
    try:
        supported = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    except (AttributeError, RuntimeError):  # a build of torch without oneDNN
        return False
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    native = any(getattr(torch.cpu, probe, bool)() for probe in probes)
    arm = platform.machine().lower() in ("aarch64", "arm64")  # there oneDNN's answer asks for the instructions
    return bool(supported) and (native or arm)
