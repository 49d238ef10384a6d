"""A folder of every odd kind of file, and what must become of each: docs/pixels.md has a row for every title."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import Image, ImageCms

from tests.support.pictures import encoded, picture

SIDE = 32
"""All whole images have this size, so that preparing them resizes nothing."""

PICTURE = picture(1, SIDE, SIDE)
RGB = np.asarray(PICTURE)
GRAY = np.asarray(PICTURE.convert("L"))
LOSSY = 4.0
"""Mean difference, of 255, that a lossy format may make."""

UNKNOWN = "not an image of a known format"
UNDECODABLE = "cannot be decoded: .+"


@dataclass(frozen=True)
class Encoded:
    """Stored, with these pixels (H, W) or (H, W, 3), of which the mean difference is at most `tolerance`."""

    pixels: np.ndarray | None = None
    tolerance: float = 0.0


@dataclass(frozen=True)
class Quarantined:
    """In the ledger with a reason that begins so: a regular expression."""

    reason: str


@dataclass(frozen=True)
class Stray:
    """In the ledger as no sample."""

    reason: str = "not an image file name"


@dataclass(frozen=True)
class Absent:
    """Not even in the ledger."""


Outcome = Encoded | Quarantined | Stray | Absent


@dataclass(frozen=True)
class OddInput:
    """One file of the folder."""

    title: str
    """Names its kind; several files may be of one."""
    name: str
    content: bytes | Callable[[Path], object]
    """The file's bytes, or what makes it at a path."""
    outcome: Outcome


def odd_inputs() -> list[OddInput]:
    """All of them; names differ."""
    groups = (_broken, _sizes, _modes, _deep, _inks, _animated, _oriented, _jpegs, _pngs, _formats, _others, _names)
    return [OddInput(*row) for group in groups for row in group()]


def build(root: Path, rows: list[OddInput]) -> None:
    """Write the folder: class `odd` with the odd inputs, beside it classes called as splits are, and an empty one."""
    for folder in ("odd", "train", "test", "empty"):
        (root / folder).mkdir(parents=True)
    for row in rows:
        path = root / "odd" / row.name
        if callable(row.content):
            row.content(path)
        else:
            path.write_bytes(row.content)
    picture(90, SIDE, SIDE).save(root / "train" / "a.png")
    picture(91, SIDE, SIDE).save(root / "test" / "b.png")


Rows = Iterator[tuple[str, str, bytes | Callable[[Path], object], Outcome]]


def _broken() -> Rows:
    large = picture(3, 200, 160)
    for file_format in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000"):
        whole = encoded(large, file_format)
        for percent in (25, 50, 75):
            name = f"cut-{percent}.{file_format.lower().replace('jpeg2000', 'jp2')}"
            yield "truncated file", name, whole[: len(whole) * percent // 100], Quarantined(UNDECODABLE)
    yield "JPEG without its last two bytes", "no-eoi.jpg", encoded(large, "JPEG")[:-2], Quarantined(UNDECODABLE)
    yield "PNG without its last chunk", "no-iend.png", encoded(PICTURE)[:-12], Encoded(RGB)
    yield "GIF without its trailer", "no-trailer.gif", encoded(_palette(), "GIF")[:-1], Encoded(_palette_rgb())
    yield "empty file", "nothing.jpg", b"", Quarantined("empty file")
    yield "text called .jpg", "text.jpg", b"This is no image.\n", Quarantined(UNKNOWN)
    yield "HTML called .png", "page.png", b"<!DOCTYPE html><html><body>404</body></html>", Quarantined(UNKNOWN)
    yield "SVG called .png", "drawing.png", b'<svg xmlns="http://www.w3.org/2000/svg"/>', Quarantined(UNKNOWN)
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n"
    yield "PostScript called .jpg", "script.jpg", script, Quarantined(UNKNOWN)
    yield "HEIC called .jpg", "phone.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), Quarantined(UNKNOWN)
    yield "PNG called .jpg", "really-png.jpg", encoded(PICTURE), Encoded(RGB)
    yield "zeros called .webp", "zeros.webp", bytes(4096), Quarantined(UNKNOWN)


def _sizes() -> Rows:
    color = (10, 200, 30)
    yield "1×1", "dot.png", encoded(Image.new("RGB", (1, 1), color)), Encoded(np.full((SIDE, SIDE, 3), color))
    long = "more than 20 times as long as wide"
    yield "20,000×1", "wide.png", encoded(Image.new("L", (20_000, 1))), Quarantined(f"20000×1 pixels, {long}")
    yield "1×20,000", "tall.png", encoded(Image.new("L", (1, 20_000))), Quarantined(f"1×20000 pixels, {long}")
    many = "more than 89,478,485 pixels"
    yield "PNG that claims 60,000×60,000", "claims.png", png(60_000, 60_000, 8, 2, b""), Quarantined(many)
    yield "PNG of 12,000×12,000 in few bytes", "bomb.png", encoded(Image.new("1", (12_000, 12_000))), Quarantined(many)
    yield "PNG without pixels", "flat.png", png(0, 8, 8, 2, b""), Quarantined(f"{UNKNOWN}|{UNDECODABLE}|no pixels")


def _modes() -> Rows:
    yield "1-bit", "one-bit.png", encoded(PICTURE.convert("1")), Encoded(np.asarray(PICTURE.convert("1")) * 255)
    levels = GRAY >> 6
    packed = levels.reshape(SIDE, -1, 4) @ np.array([64, 16, 4, 1], np.uint8)
    yield "gray of 2 bits", "two-bits.png", png(SIDE, SIDE, 2, 0, _rows(packed)), Encoded(levels * 85)
    yield "gray in a color source", "gray.jpg", encoded(PICTURE.convert("L"), "JPEG"), Encoded(GRAY, LOSSY)
    yield "palette", "palette.png", encoded(_palette()), Encoded(_palette_rgb())
    transparent = np.where(np.asarray(_palette())[..., None] == 3, 255, _palette_rgb())
    yield "palette with a transparent color", "hole.png", encoded(_palette(), transparency=3), Encoded(transparent)
    mask = Image.fromarray(np.where(np.arange(SIDE) < SIDE // 2, 0, 255).astype(np.uint8)[None].repeat(SIDE, 0))
    half = RGB.copy()
    half[:, : SIDE // 2] = 255
    color, gray = PICTURE.copy(), PICTURE.convert("L")
    color.putalpha(mask)
    gray.putalpha(mask)
    half_gray = GRAY.copy()
    half_gray[:, : SIDE // 2] = 255
    yield "RGBA", "rgba.png", encoded(color), Encoded(half)
    yield "gray with alpha", "la.png", encoded(gray), Encoded(half_gray)
    yield "BMP with an alpha mask", "alpha.bmp", _masked_bmp(np.asarray(color)), Encoded(half)
    yield "BMP of 32 bits without masks", "plain.bmp", encoded(color, "BMP"), Encoded(RGB)
    yield "TIFF with premultiplied alpha", "premultiplied.tiff", _premultiplied(), Encoded(half)


def _deep() -> Rows:
    deep = RGB.astype(np.uint16) * 256 + 200
    gray = GRAY.astype(np.uint16) * 256 + 200
    yield "16-bit gray PNG", "gray16.png", imagecodecs.png_encode(gray), Encoded(GRAY)
    yield "16-bit RGB PNG", "rgb16.png", imagecodecs.png_encode(deep), Encoded(RGB)
    yield "16-bit RGB TIFF", "rgb16.tif", tiff(deep, "rgb"), Encoded(RGB)
    yield "16-bit gray TIFF", "gray16.tif", tiff(gray, "minisblack"), Encoded(GRAY)
    yield "16-bit white-is-zero TIFF", "white16.tif", tiff(65535 - gray, "miniswhite"), Encoded(GRAY)
    yield "12-bit gray TIFF", "gray12.tif", _twelve_bit_tiff(gray >> 4), Encoded(GRAY)
    key = chunk(b"tRNS", struct.pack(">H", int(gray[0, 0])))
    keyed = np.where(gray == gray[0, 0], 255, GRAY)
    data = png(SIDE, SIDE, 16, 0, _rows(gray), key)
    yield "16-bit gray PNG with a transparent value", "key16.png", data, Encoded(keyed)
    depths = "pixels beyond 16 bits"
    yield "float TIFF", "float.tif", tiff(gray.astype(np.float32), "minisblack"), Quarantined(depths)
    yield "32-bit integer TIFF", "int32.tif", tiff(gray.astype(np.uint32), "minisblack"), Quarantined(depths)
    planes = np.moveaxis(deep, 2, 0).copy()
    data = tiff(planes, "rgb", planarconfig="separate")
    yield "16-bit TIFF in separate planes", "planes16.tif", data, Quarantined("TIFF with channels in separate planes")
    data = tiff(np.moveaxis(RGB, 2, 0).copy(), "rgb", planarconfig="separate")
    yield "8-bit TIFF in separate planes", "planes8.tif", data, Encoded(RGB)
    data = imagecodecs.jpeg2k_encode(deep, level=0, reversible=True)
    yield "16-bit color JPEG 2000", "deep.jp2", data, Quarantined("JPEG 2000 color of more than 8 bits")
    data = imagecodecs.jpeg2k_encode(gray, level=0, reversible=True)
    yield "16-bit gray JPEG 2000", "gray16.jp2", data, Encoded(GRAY)


def _inks() -> Rows:
    ink = np.asarray(PICTURE.convert("CMYK"))
    yield "CMYK TIFF", "cmyk.tif", encoded(PICTURE.convert("CMYK"), "TIFF"), Encoded(RGB)
    adobe = encoded(PICTURE.convert("CMYK"), "JPEG", quality=95)
    yield "CMYK JPEG as Adobe writes it", "adobe.jpg", adobe, Encoded(RGB, LOSSY)
    start = adobe.index(b"\xff\xee")
    length = 2 + int.from_bytes(adobe[start + 2 : start + 4], "big")
    yield "CMYK JPEG without Adobe's mark", "cmyk.jpg", adobe[:start] + adobe[start + length :], Encoded(RGB, LOSSY)
    data = imagecodecs.jpeg8_encode(255 - ink, 95, colorspace="CMYK", outcolorspace="YCCK")
    yield "YCCK JPEG", "ycck.jpg", data, Encoded(RGB, LOSSY)
    lab = ImageCms.profileToProfile(
        PICTURE, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    yield "LAB TIFF", "lab.tif", encoded(lab, "TIFF"), Quarantined("LAB colors; expected gray, RGB or CMYK")
    yield "YCbCr TIFF", "ycbcr.tif", encoded(PICTURE.convert("YCbCr"), "TIFF"), Encoded(RGB, 1.5)


def _animated() -> Rows:
    rest = [picture(seed, SIDE, SIDE) for seed in (5, 6)]
    first, other = _palette(), [image.quantize(16) for image in rest]
    data = encoded(first, "GIF", save_all=True, append_images=other)
    yield "animated GIF", "film.gif", data, Encoded(_palette_rgb())
    data = encoded(PICTURE, "WEBP", save_all=True, append_images=rest, lossless=True)
    yield "animated WebP", "film.webp", data, Encoded(RGB)
    yield "APNG", "film.png", encoded(PICTURE, save_all=True, append_images=rest), Encoded(RGB)
    data = encoded(PICTURE, "TIFF", save_all=True, append_images=rest)
    yield "TIFF of several pages", "pages.tif", data, Encoded(RGB)
    data = encoded(PICTURE, "MPO", save_all=True, append_images=rest, quality=95)
    yield "JPEG of several pictures (MPO)", "burst.jpg", data, Encoded(RGB, LOSSY)
    data = b"GIF89a" + struct.pack("<HHBBB", SIDE, SIDE, 0, 0, 0) + b";"
    yield "GIF without a frame", "none.gif", data, Quarantined(f"{UNKNOWN}|{UNDECODABLE}")


def _oriented() -> Rows:
    turned = np.rot90(RGB, -1)
    yield "EXIF orientation 6", "turned.png", encoded(PICTURE, exif=_exif(6)), Encoded(turned)
    yield "TIFF with orientation 6", "turned.tif", encoded(PICTURE, "TIFF", tiffinfo={274: 6}), Encoded(turned)
    yield "EXIF orientation 0", "zero.png", encoded(PICTURE, exif=_exif(0)), Encoded(RGB)
    yield "EXIF orientation 9", "nine.png", encoded(PICTURE, exif=_exif(9)), Encoded(RGB)
    yield "EXIF orientation 6 as text", "six.png", encoded(PICTURE, exif=_exif_entry(2, b"6\0\0\0", 2)), Encoded(turned)
    word = _exif_entry(2, b"up\0\0", 3)
    yield "EXIF orientation that is no number", "word.png", encoded(PICTURE, exif=word), Encoded(RGB)
    cut = encoded(PICTURE, "JPEG", quality=95, exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01")
    yield "truncated EXIF", "cut-exif.jpg", cut, Encoded(RGB, LOSSY)
    gps = Image.Exif()
    gps[0x8825] = {1: "N", 2: (1.0, 2.0, 3.0)}
    yield "EXIF with a place only", "gps.jpg", encoded(PICTURE, "JPEG", quality=95, exif=gps), Encoded(RGB, LOSSY)
    yield "EXIF of 2,000 values of 240 kB in one another's place", "exif-bomb.png", _exif_bomb(), Encoded(RGB)


def _jpegs() -> Rows:
    whole = encoded(PICTURE, "JPEG", quality=95)
    yield "JPEG with garbage behind its end", "tail.jpg", whole + b"garbage" * 100, Encoded(RGB, LOSSY)
    data = encoded(PICTURE, "JPEG", quality=95, restart_marker_blocks=1)
    yield "JPEG with restart markers", "restart.jpg", data, Encoded(RGB, LOSSY)
    data = encoded(PICTURE, "JPEG", quality=95, progressive=True)
    yield "progressive JPEG", "progressive.jpg", data, Encoded(RGB, LOSSY)
    arithmetic = _arithmetic_jpeg()
    yield "arithmetic-coded JPEG", "arithmetic.jpg", arithmetic, Encoded(imagecodecs.jpeg8_decode(arithmetic), 1)
    yield "lossless JPEG", "lossless.jpg", imagecodecs.jpeg8_encode(RGB, lossless=True), Encoded(RGB)


def _pngs() -> Rows:
    whole = bytearray(encoded(PICTURE))
    header, pixels, end = (whole.index(name) for name in (b"IHDR", b"IDAT", b"IEND"))
    for title, name, position, outcome in (
        ("PNG with a wrong checksum of its header", "crc-header.png", header + 17, Quarantined(UNKNOWN)),
        ("PNG with a wrong checksum of its pixels", "crc-pixels.png", end - 8, Encoded(RGB)),
        ("PNG with a flipped bit in its pixels", "bit.png", pixels + 40, Quarantined(UNDECODABLE)),
    ):
        damaged = whole.copy()
        damaged[position] ^= 1
        yield title, name, bytes(damaged), outcome

    def with_chunk(kind: bytes, data: bytes) -> bytes:
        return png(SIDE, SIDE, 8, 2, _rows(RGB), chunk(kind, data))

    text = with_chunk(b"tEXt", b"Comment\0" + b"a" * 2**21)
    yield "PNG with 2 MB of text", "text.png", text, Encoded(RGB)
    bomb = zlib.compress(bytes(2**26))
    data = with_chunk(b"zTXt", b"Comment\0\0" + bomb)
    yield "PNG whose text unfolds to 64 MB", "text-bomb.png", data, Quarantined(UNDECODABLE)
    data = with_chunk(b"iCCP", b"profile\0\0" + bomb)
    yield "PNG whose profile unfolds to 64 MB", "icc-bomb.png", data, Quarantined(UNDECODABLE)
    yield "PNG whose profile is damaged", "icc.png", encoded(PICTURE, icc_profile=b"no profile"), Encoded(RGB)


def _formats() -> Rows:
    yield "WebP", "a.webp", encoded(PICTURE, "WEBP", lossless=True), Encoded(RGB)
    yield "AVIF", "a.avif", encoded(PICTURE, "AVIF", quality=95), Encoded(RGB, LOSSY)
    yield "JPEG 2000", "a.jp2", encoded(PICTURE, "JPEG2000"), Encoded(RGB)
    yield "16-bit PPM", "a.ppm", b"P6 32 32 65535\n" + (RGB.astype(">u2") * 257).tobytes(), Encoded(RGB)
    yield "TIFF whose directories form a loop", "loop.tif", _looped_tiff(), Encoded(GRAY)


def _others() -> Rows:
    yield "ICO", "icon.ico", encoded(PICTURE, "ICO", sizes=[(SIDE, SIDE)]), Stray()
    yield "ICO called .png", "icon.png", encoded(PICTURE, "ICO", sizes=[(SIDE, SIDE)]), Quarantined(UNKNOWN)
    yield "SVG", "drawing.svg", b"<svg/>", Stray()
    yield "PSD", "layers.psd", b"8BPS\0\1" + bytes(20), Stray()
    yield "PSD called .jpg", "layers.jpg", b"8BPS\0\1" + bytes(20), Quarantined(UNKNOWN)
    yield "HEIC", "phone.heic", b"\0\0\0\x18ftypheic", Stray()
    yield "camera raw", "camera.cr2", b"II*\0\x10\0\0\0CR\2\0", Stray()
    yield "unknown extension", "notes.xyz", b"?", Stray()
    yield "no extension", "README", b"?", Stray()
    loud, twin = picture(20, SIDE, SIDE), picture(21, SIDE, SIDE)
    yield "upper-case extension", "LOUD.PNG", encoded(loud), Encoded(np.asarray(loud))
    yield "hidden file", ".hidden.png", encoded(PICTURE), Absent()
    for name in ("twin-1.png", "twin-2.png"):
        yield "duplicate content", name, encoded(twin), Encoded(np.asarray(twin))


def _names() -> Rows:
    for title, name in (
        ("name that is no UTF-8", os.fsdecode(b"caf\xe9.png")),
        ("name with a line break", "two\nlines.png"),
        ("name of 255 bytes", "n" * 251 + ".png"),
        ("name with an emoji", "\N{CAT}.png"),
    ):
        yield title, name, encoded(PICTURE), Encoded(RGB)
    unreadable = Quarantined("cannot be read: .+")
    yield "broken symbolic link", "gone.png", _link("nowhere.png"), Quarantined("no such file")
    yield "symbolic link to itself", "self.png", _link("self.png"), unreadable
    yield "folder called .jpg", "folder.jpg", Path.mkdir, Absent()
    yield "pipe called .png", "pipe.png", os.mkfifo, Stray("not a regular file")
    if Path("/proc/self/mem").exists():  # reading its beginning is an error, for root too
        yield "file that cannot be read", "memory.png", _link("/proc/self/mem"), unreadable
    if os.geteuid():
        yield "file without permission", "secret.png", _forbidden, unreadable


def _link(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


def _forbidden(path: Path) -> None:
    path.write_bytes(encoded(PICTURE))
    path.chmod(0)


def _palette() -> Image.Image:
    return PICTURE.quantize(16)


def _palette_rgb() -> np.ndarray:
    return np.array(_palette().getpalette(), np.uint8).reshape(-1, 3)[np.asarray(_palette())]


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, color: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG of any header; `rows` with their filter bytes, `more` are chunks before the pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"".join((b"\x89PNG\r\n\x1a\n", header, *more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")))


def _rows(values: np.ndarray) -> bytes:
    """Unfiltered rows, big-endian."""
    return b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in values)


def tiff(values: np.ndarray, photometric: str, **options) -> bytes:
    """A TIFF as tifffile writes it."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, photometric=photometric, **options)
    return stream.getvalue()


def _masked_bmp(rgba: np.ndarray) -> bytes:
    """With a version 4 header, whose masks say where red, green, blue and alpha are."""
    masks = (0x00FF0000, 0x0000FF00, 0x000000FF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, SIDE, -SIDE, 1, 32, 3, rgba.size, 0, 0, 0, 0)
    header += struct.pack("<4I4s48x", *masks, b"BGRs")
    pixels = rgba[..., [2, 1, 0, 3]].tobytes()
    return b"BM" + struct.pack("<IHHI", 14 + 108 + len(pixels), 0, 0, 14 + 108) + header + pixels


def _premultiplied() -> bytes:
    alpha = np.where(np.arange(SIDE) < SIDE // 2, 0, 255).astype(np.uint8)[None, :, None].repeat(SIDE, 0)
    return tiff(np.concatenate([RGB * (alpha > 0), alpha], 2), "rgb", extrasamples=["assocalpha"])


def _plain_tiff(bits: int, pixels: bytes, next_directory: int = 0) -> bytes:
    """A gray TIFF of one strip, written by hand."""
    entries = {256: SIDE, 257: SIDE, 258: bits, 259: 1, 262: 1, 273: 0, 277: 1, 278: SIDE, 279: len(pixels)}
    start = 8
    entries[273] = start + 2 + 12 * len(entries) + 4
    directory = struct.pack("<H", len(entries))
    for tag, value in entries.items():
        directory += struct.pack("<HHII", tag, 4, 1, value)
    return b"II*\0" + struct.pack("<I", start) + directory + struct.pack("<I", next_directory) + pixels


def _twelve_bit_tiff(values: np.ndarray) -> bytes:
    pairs = values.reshape(-1, 2)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], 1)
    return _plain_tiff(12, packed.astype(np.uint8).tobytes())


def _looped_tiff() -> bytes:
    return _plain_tiff(8, GRAY.tobytes(), next_directory=8)


def _exif(orientation: int) -> bytes:
    return _exif_entry(3, struct.pack("<HH", orientation, 0), 1)


def _exif_entry(kind: int, value: bytes, count: int) -> bytes:
    """EXIF with one entry, Orientation."""
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHI", 1, 274, kind, count) + value + bytes(4)


def _exif_bomb() -> bytes:
    blob = bytearray(b"II*\0\x08\0\0\0" + struct.pack("<H", 2000))
    for number in range(2000):
        blob += struct.pack("<HHII", 40_000 + number, 7, 240_000, 8)
    return png(SIDE, SIDE, 8, 2, _rows(RGB), chunk(b"eXIf", bytes(blob) + bytes(240_000)))


def _arithmetic_jpeg() -> bytes:
    """By hand: one scan of DC differences in arithmetic code (SOF10), which an empty one is, too."""

    def segment(marker: int, data: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data

    quantization = segment(0xDB, b"\0" + bytes([8] * 64))
    frame = segment(0xCA, struct.pack(">BHHB", 8, SIDE, SIDE, 1) + bytes([1, 0x11, 0]))
    return b"\xff\xd8" + quantization + frame + segment(0xDA, bytes([1, 1, 0, 0, 0, 0])) + b"\xff\xd9"
