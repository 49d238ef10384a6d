"""One signal to the bytes of an archive and back: padding, codec, archive, codec, crop."""

from __future__ import annotations

import numpy as np
import torch

from datasets_prep.zoo_lookup import CodecLookup
from walloc_cdl.codec import Codec, to_bytes
from walloc_cdl.latents.archive import archive_from_bytes, archive_to_bytes, codes_from_picture, read_info
from walloc_cdl.spec import LatentSpec


def encode_signal(signal: np.ndarray, codec: Codec, spec: LatentSpec, *, container: str | None = None) -> bytes:
    """The archive of one signal (C, H, W) or (C, T) of any size, padded at its ends to the codec's stride."""
    padded = pad_to_stride(signal, spec.stride)
    with torch.inference_mode():
        codes = codec.encode(torch.from_numpy(padded)[None])[0].cpu().numpy()
    return archive_to_bytes(codes, spec, signal_shape=signal.shape, container=container, codec=codec.name)


def decode_signal(
    data: bytes, lookup: CodecLookup, *, origin: str, max_code_bytes: int | None = None
) -> tuple[np.ndarray, LatentSpec]:
    """The signal of an archive, uint8, cropped to its true size; without metadata it comes as it was padded."""
    info = read_info(data, origin=origin)
    if info is None:
        codec, spec = lookup.given(origin)
        codes, size = codes_from_picture(data, spec, origin=origin, max_code_bytes=max_code_bytes), None
    else:
        codec, spec = lookup.recorded(info, origin)
        codes = archive_from_bytes(data, origin=origin, max_code_bytes=max_code_bytes).codes
        size = info.signal_shape[1:]
    with torch.inference_mode():
        decoded = to_bytes(codec.decode(torch.from_numpy(codes)[None]))[0].cpu().numpy()
    return decoded if size is None else decoded[(slice(None), *map(slice, size))], spec


def pad_to_stride(signal: np.ndarray, stride: int) -> np.ndarray:
    """The signal (C, …) with its last values repeated at the right and bottom up to multiples of `stride`.

    >>> pad_to_stride(np.array([[1, 2, 3]]), 4)
    array([[1, 2, 3, 3]])
    """
    return np.pad(signal, [(0, 0), *((0, -size % stride) for size in signal.shape[1:])], mode="edge")
