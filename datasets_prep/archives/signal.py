"""Encoding a signal to the bytes of an archive (padding, codec, archive), and decoding it (archive, codec, crop)."""

from __future__ import annotations

import numpy as np

from datasets_prep.archives.codec_lookup import CodecLookup
from datasets_prep.encode.any_size import decode_bounded, encode_bounded, pad_to_stride
from walloc_cdl.codec import Codec
from walloc_cdl.latents.archive import archive_from_bytes, archive_to_bytes, codes_from_picture, read_info
from walloc_cdl.spec import LatentSpec


def encode_signal(signal: np.ndarray, codec: Codec, spec: LatentSpec, *, container: str | None = None) -> bytes:
    """Return the archive of one signal, (C, H, W) or (C, T), of any size; its ends are padded to the codec's stride."""
    codes = encode_bounded(codec, pad_to_stride(signal, spec.stride))
    return archive_to_bytes(codes, spec, signal_shape=signal.shape, container=container, codec=codec.name)


def decode_signal(
    data: bytes, lookup: CodecLookup, *, origin: str, max_code_bytes: int | None = None
) -> tuple[np.ndarray, LatentSpec]:
    """Return the signal of an archive, uint8 pixels or int16 PCM, cropped to its original size, and the codec's spec.

    A signal of an archive without metadata keeps its padding.
    """
    info = read_info(data, origin=origin)
    if info is None:
        codec, spec = lookup.given_codec(origin)
        codes, size = codes_from_picture(data, spec, origin=origin, max_code_bytes=max_code_bytes), None
    else:
        codec, spec = lookup.recorded_codec(info, origin)
        codes = archive_from_bytes(data, origin=origin, max_code_bytes=max_code_bytes).codes
        size = info.signal_shape[1:]
    decoded = decode_bounded(codec, codes)
    return decoded if size is None else decoded[(slice(None), *map(slice, size))], spec
