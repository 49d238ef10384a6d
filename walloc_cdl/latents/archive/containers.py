"""The picture formats that codes are archived in, with their limits.

The default container was chosen by measurement, independently of K: JPEG XL (libjxl through `imagecodecs`, an optional
dependency) for images, WebP for audio; docs/archives.md has the table. `imagecodecs` is BSD-licensed and large;
`pillow-jxl-plugin` is smaller, but GPL-licensed, and decodes every pixel before a size can be checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from walloc_cdl.errors import CallError, unknown_name
from walloc_cdl.latents.archive import jxl, png, tiff, webp
from walloc_cdl.latents.archive.picture import PictureError, PictureHeader

MAX_PIXELS = 89_478_485
"""Maximum pixels of a picture that PIL reads: above it, PIL warns of decompression bombs."""


@dataclass(frozen=True)
class Container:
    """One picture format."""

    name: str
    suffixes: tuple[str, ...]
    """Suffixes of file names, lower case; the first is used for writing."""
    signature: Callable[[bytes], bool]
    """Whether the content of a file begins with this format's signature."""
    planes: Callable[[int], int]
    """Number of planes for a number of latent channels."""
    max_side: int
    """Largest width and height, in pixels."""
    max_pixels: int
    encode: Callable[[np.ndarray, bytes | None], bytes]
    """Encodes a picture, uint8 (H, W, planes), and a text; deterministic."""
    read_header: Callable[[bytes], PictureHeader]
    """Reads size and metadata without decoding a pixel; raises `PictureError`."""
    decode: Callable[[bytes, PictureHeader], np.ndarray]
    """Decodes exactly the encoded pixels, uint8 (H, W, planes); raises `PictureError`."""


PNG = Container(
    name="png",
    suffixes=(".png",),
    signature=lambda data: data.startswith(png.SIGNATURE),
    planes=lambda _: 1,
    max_side=MAX_PIXELS,
    max_pixels=MAX_PIXELS,
    encode=png.encode,
    read_header=png.read_header,
    decode=png.decode,
)
WEBP = Container(
    name="webp",
    suffixes=(".webp",),
    signature=lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP",
    planes=lambda _: 3,
    max_side=webp.MAX_SIDE,
    max_pixels=MAX_PIXELS,
    encode=webp.encode,
    read_header=webp.read_header,
    decode=webp.decode,
)
TIFF = Container(
    name="tiff",
    suffixes=(".tif", ".tiff"),
    signature=lambda data: data[:4] in (b"II*\0", b"MM\0*"),
    planes=lambda _: tiff.PLANES,
    max_side=MAX_PIXELS,
    max_pixels=MAX_PIXELS,
    encode=tiff.encode,
    read_header=tiff.read_header,
    decode=tiff.decode,
)
JXL = Container(
    name="jxl",
    suffixes=(".jxl",),
    signature=lambda data: data.startswith((jxl.STREAM_SIGNATURE, jxl.BOXES_SIGNATURE)),
    planes=lambda num_channels: 3 if num_channels == 3 else 1,  # three help the pixels of `ResizeCodec` only
    max_side=2**30,
    max_pixels=2**40,
    encode=jxl.encode,
    read_header=jxl.read_header,
    decode=jxl.decode,
)
CONTAINERS = {container.name: container for container in (PNG, WEBP, TIFF, JXL)}


def find_container(name: str) -> Container:
    """Return the container of this name; `CallError`, with the nearest names, for an unknown name."""
    if name not in CONTAINERS:
        raise unknown_name("container", name, CONTAINERS, f"there are {', '.join(CONTAINERS)}")
    return CONTAINERS[name]


def default_container(kind: str) -> Container:
    """Return the container with the smallest files for latents of images or of audio, as measured (docs/archives.md).

    It is JPEG XL for images if `imagecodecs` is installed, and WebP otherwise.
    """
    return JXL if kind == "image" and jxl.is_available() else WEBP


def container_of_name(path: PurePath) -> Container:
    """Return the container of a file name's suffix; raises `CallError` for an unknown suffix."""
    for container in CONTAINERS.values():
        if path.suffix.lower() in container.suffixes:
            return container
    known = ", ".join(suffix for container in CONTAINERS.values() for suffix in container.suffixes)
    raise CallError(f"{path} does not end in the suffix of an archive format; end its name in one of {known}")


def container_of_bytes(data: bytes) -> Container:
    """Return the container whose signature a file begins with; raises `PictureError` for an unknown signature."""
    for container in CONTAINERS.values():
        if container.signature(data):
            return container
    raise PictureError(f"has no signature of a {', '.join(CONTAINERS)} file")
