"""Entropy-coded archives: the codes of one signal as a lossless picture file, which decodes to the same codes.

`docs/archives.md` specifies the layout, the metadata and the containers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from crc32c import crc32c

from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.latents.archive.containers import (
    CONTAINERS,
    Container,
    container_of_bytes,
    default_container,
    find_container,
)
from walloc_cdl.latents.archive.metadata import ArchiveInfo, inconsistency
from walloc_cdl.latents.archive.mosaic import Layout, choose_layout, fold, square_mosaic, unfold
from walloc_cdl.latents.archive.picture import PictureError, PictureHeader
from walloc_cdl.spec import LatentSpec

REMEDY = "restore the file from a copy or encode it again"

BASE_CODE_LIMIT = 8 * 2**20
CODE_LIMIT_PER_FILE_BYTE = 16
"""The default limit of decoded codes, a guard against decompression bombs: a base, plus a number per byte of the file.

Photos take more than 2 bits per code, and half a bit is allowed; flat images of 45 megapixels pass. Decoding 8 MiB of
codes takes at most 50 MB of memory.
"""


@dataclass(frozen=True, eq=False)
class Archive:
    """Content of an archive."""

    codes: np.ndarray
    """uint8 (K, h, w), or (K, t) for audio."""
    info: ArchiveInfo


def archive_to_bytes(
    codes: np.ndarray,
    spec: LatentSpec,
    *,
    signal_shape: tuple[int, ...],
    container: str | None = None,
    codec: str | None = None,
) -> bytes:
    """Return the archive file of codes uint8 (K, h, w), or (K, t) for audio; equal arguments give equal bytes.

    `signal_shape` is (C, H, W) or (C, T) of the signal before padding; `codec` is the codec's name. Without
    `container`, `default_container` is used. Raises `CallError` for codes that do not obey the spec, and for a mosaic
    that the container cannot hold; the message names a container that can.
    """
    chosen = find_container(container) if container else default_container(spec.kind)
    _require_codes(codes, spec)
    layout = _layout(codes.shape, chosen)
    info = ArchiveInfo(spec, codec, tuple(codes.shape), tuple(signal_shape), layout, _checksum(codes))
    if problem := inconsistency(info):
        raise CallError(f"archive not written: {problem}; give the shape of the signal that was encoded")
    return chosen.encode(_picture(codes, layout, spec.bits), info.to_text())


def picture_to_bytes(codes: np.ndarray, *, bits: int, container: str) -> bytes:
    """Return the picture of an archive without metadata: the file that `walloc` saves, where its layout is possible."""
    chosen = find_container(container)
    return chosen.encode(_picture(codes, _layout(codes.shape, chosen), bits), None)


def archive_from_bytes(data: bytes, *, origin: str = "archive", max_code_bytes: int | None = None) -> Archive:
    """Read an archive: the inverse of `archive_to_bytes`.

    The file is untrusted: no pixel is decoded before everything else is checked. `origin` names the file in errors.
    `max_code_bytes` replaces the default limit of decoded codes, 8 MiB plus 16 for each byte of the file. Raises
    `DamagedError` for anything except an intact archive, `CallError` for a picture without metadata, and for JPEG XL
    if no decoder is installed.
    """
    try:
        container, header = _open(data)
        if header.text is None:
            raise CallError(
                f"{origin} is a picture without an archive's metadata; name the codec whose codes it holds (--codec)"
            )
        info = ArchiveInfo.from_text(header.text)
        mosaic = info.layout.mosaic
        if (header.height, header.width) != info.layout.sides or header.planes not in (-1, mosaic.planes):
            raise PictureError(
                f"a picture of {header.width}x{header.height} is not the mosaic that its metadata describe"
            )
        _require_size(data, info.num_codes, max_code_bytes)
        picture = container.decode(data, header)
        if picture.shape[2] != mosaic.planes:
            raise PictureError(f"a picture of {picture.shape[2]} planes, expected {mosaic.planes}")
        codes = unfold(mosaic.split(picture, info.latent_shape[0]), info.latent_shape)
        if _checksum(codes) != info.codes_crc32c:
            raise PictureError("the codes fail their CRC-32C")
        _require_range(codes, info.spec)
    except PictureError as error:
        raise DamagedError(f"{origin}: {error}; {REMEDY}") from error
    return Archive(codes, info)


def read_info(data: bytes, *, origin: str = "archive") -> ArchiveInfo | None:
    """Read the metadata without decoding a pixel; None for a picture without. Raises `DamagedError`."""
    try:
        _, header = _open(data)
        return None if header.text is None else ArchiveInfo.from_text(header.text)
    except PictureError as error:
        raise DamagedError(f"{origin}: {error}; {REMEDY}") from error


def codes_from_picture(
    data: bytes, spec: LatentSpec, *, origin: str = "picture", max_code_bytes: int | None = None
) -> np.ndarray:
    """Return the codes, uint8 (K, h, w), of a picture without metadata as `walloc` saves it: n × n tiles per plane.

    K and bits are those of `spec`; channels beyond K are padding. A folded latent is returned folded. Raises
    `DamagedError` for a picture that is not such a mosaic.
    """
    try:
        container, header = _open(data)
        _require_size(data, max(header.planes, 1) * header.width * header.height, max_code_bytes)
        picture = container.decode(data, header)
        mosaic = square_mosaic(spec.latent_channels, picture.shape[2])
        if header.height % mosaic.rows or header.width % mosaic.columns:
            raise PictureError(
                f"{header.width}x{header.height} pixels are not {mosaic.rows} x {mosaic.columns} tiles, "
                f"which {spec.latent_channels} channels in {mosaic.planes} planes need"
            )
        codes = mosaic.split(picture, spec.latent_channels)
        _require_range(codes, spec)
    except PictureError as error:
        raise DamagedError(f"{origin}: {error}; {REMEDY}, or name the codec that made it") from error
    return codes


def _open(data: bytes) -> tuple[Container, PictureHeader]:
    container = container_of_bytes(data)
    header = container.read_header(data)
    if not header.width or not header.height or header.width * header.height > container.max_pixels:
        raise PictureError(
            f"a picture of {header.width}x{header.height} pixels, expected between 1 and {container.max_pixels:,} "
            f"in {container.name}"
        )
    return container, header


def _layout(latent_shape: tuple[int, ...], container: Container) -> Layout:
    layout = _find_layout(latent_shape, container)
    if layout is None:
        other = next((other.name for other in CONTAINERS.values() if _find_layout(latent_shape, other)), None)
        remedy = f"choose {other}" if other else "encode the signal in tiles"
        raise CallError(
            f"a latent of {'x'.join(map(str, latent_shape))} does not fit into a mosaic within the limits of "
            f"{container.name}, {container.max_side:,} pixels per side and {container.max_pixels:,} in all; {remedy}"
        )
    return layout


def _find_layout(latent_shape: tuple[int, ...], container: Container) -> Layout | None:
    layout = choose_layout(latent_shape, container.planes(latent_shape[0]), max_side=container.max_side)
    return layout if layout and math.prod(layout.sides) <= container.max_pixels else None


def _picture(codes: np.ndarray, layout: Layout, bits: int) -> np.ndarray:
    zero = 1 << (bits - 1)
    return layout.mosaic.assemble(fold(codes, layout.tile, zero), zero)


def _require_codes(codes: np.ndarray, spec: LatentSpec) -> None:
    dimensions = 3 if spec.kind == "image" else 2
    if codes.dtype != np.uint8 or codes.ndim != dimensions or codes.shape[0] != spec.latent_channels or not codes.size:
        grid = "h, w" if spec.kind == "image" else "t"
        raise CallError(
            f"codes are {codes.dtype} {list(codes.shape)}, expected uint8 [{spec.latent_channels}, {grid}], not empty"
        )
    try:
        _require_range(codes, spec)
    except PictureError as error:
        remedy = f"store code + {1 << (spec.bits - 1)}" if spec.planes is None else "encode with the codec of the spec"
        raise CallError(f"archive not written: {error}; {remedy}") from error


def _require_range(codes: np.ndarray, spec: LatentSpec) -> None:
    if spec.planes is not None:
        largest = codes.reshape(len(codes), -1).max(1)
        if (wrong := np.flatnonzero(largest >= 2 ** np.array(spec.channel_bits))).size:
            channel = int(wrong[0])
            raise PictureError(
                f"code {largest[channel]} of channel {channel}, expected 0 to {2 ** spec.channel_bits[channel] - 1}"
            )
        return
    low, high = spec.byte_range
    if not low <= codes.min() <= codes.max() <= high:
        raise PictureError(f"code bytes from {codes.min()} to {codes.max()}, expected {low} to {high}")


def _require_size(data: bytes, num_codes: int, max_code_bytes: int | None) -> None:
    limit = BASE_CODE_LIMIT + CODE_LIMIT_PER_FILE_BYTE * len(data) if max_code_bytes is None else max_code_bytes
    if num_codes > limit:
        raise PictureError(
            f"{num_codes:,} codes in a file of {len(data):,} bytes, expected at most {limit:,}; "
            "allow more (max_code_bytes) if you know where the file comes from"
        )


def _checksum(codes: np.ndarray) -> int:
    return crc32c(np.ascontiguousarray(codes))
