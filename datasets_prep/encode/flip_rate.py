"""Measures the flip rate: the share of codes that change with the way in which they are computed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from datasets_prep.encode.encoder import Encoder
from datasets_prep.encode.torch_settings import full_precision
from walloc_cdl.codec import Codec
from walloc_cdl.latents.packing import to_codes
from walloc_cdl.machine import cpu_count
from walloc_cdl.threads import torch_threads


def flip_rate(codec: Codec, encoder: Encoder, signals: np.ndarray) -> dict[str, Any]:
    """Return the shares of the codes of prepared signals (n, C, …) that change with the conditions of encoding.

    `batch`: one by one instead of in the job's batches, on the same device; `threads`: with all threads instead of one,
    on the CPU; `device`: on the CPU instead of the job's device. `value` is the largest of these shares. `codec` must
    be on the CPU.
    """
    codes = _codes(codec, encoder.encode([signals]), signals)
    one_by_one = Encoder(codec, encoder.device, batch=1, signal_shape=signals.shape[1:])
    single = _codes(codec, one_by_one.encode(signal[None] for signal in signals), signals)
    one_thread, all_threads = (_on_cpu(codec, signals, threads) for threads in (1, cpu_count()))
    rates = {
        "batch": _share(codes, single),
        "threads": _share(one_thread, all_threads),
        "device": _share(codes, one_thread),
    }
    return {"value": max(rates.values()), **rates, "num_codes": int(codes.size)}


def _codes(codec: Codec, encoded: Iterable[np.ndarray], signals: np.ndarray) -> np.ndarray:
    """Return what an encoder yields as codes."""
    joined = np.concatenate(list(encoded))
    return joined if codec.planes is None else to_codes(joined, codec.planes, codec.latent_shape(signals.shape[1:])[1:])


def _on_cpu(codec: Codec, signals: np.ndarray, threads: int) -> np.ndarray:
    with torch_threads(threads), torch.inference_mode(), full_precision():
        return codec.encode(torch.from_numpy(signals)).numpy()


def _share(codes: np.ndarray, other: np.ndarray) -> float:
    return float(np.mean(codes != other))
