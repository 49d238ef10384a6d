"""The encode certificate: how many codes depend on how they were computed, measured on the spot."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from datasets_prep.encode.encoder import Encoder
from datasets_prep.encode.torch_settings import full_precision
from walloc_cdl.codec import Codec
from walloc_cdl.machine import cpu_count


def flip_rate(codec: Codec, encoder: Encoder, signals: np.ndarray) -> dict[str, Any]:
    """Shares of the codes of prepared signals (n, C, …) that change with the circumstances.

    `batch`: encoded one by one instead of in the job's batches, on the same device; `threads`: on the CPU
    with all threads instead of one; `device`: on the CPU instead of the job's device. `value` is the largest
    of them. `codec` is on the CPU.
    """
    codes = np.concatenate(list(encoder.encode([signals])))
    one_by_one = Encoder(codec, encoder.device, batch=1, signal_shape=signals.shape[1:])
    single = np.concatenate(list(one_by_one.encode(signal[None] for signal in signals)))
    alone, together = (_on_cpu(codec, signals, threads) for threads in (1, cpu_count()))
    rates = {
        "batch": _share(codes, single),
        "threads": _share(alone, together),
        "device": _share(codes, alone),
    }
    return {"value": max(rates.values()), **rates, "num_codes": int(codes.size)}


def _on_cpu(codec: Codec, signals: np.ndarray, threads: int) -> np.ndarray:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode(), full_precision():
            return codec.encode(torch.from_numpy(signals)).numpy()
    finally:
        torch.set_num_threads(before)


def _share(mine: np.ndarray, others: np.ndarray) -> float:
    return float(np.mean(mine != others))
