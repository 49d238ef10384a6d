"""The metadata of an archive: one string of canonical JSON inside the picture file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from crc32c import crc32c

from walloc_cdl.canonical import canonical_json
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.fields import REMEDY, Fields, require_integer
from walloc_cdl.json_files import parse_json
from walloc_cdl.latents.archive.mosaic import Layout, Mosaic
from walloc_cdl.latents.archive.picture import PictureError
from walloc_cdl.schema import from_json
from walloc_cdl.spec import LatentSpec

FORMAT = "walloc-cdl archive"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class ArchiveInfo:
    """Everything that decoding needs in addition to the picture."""

    spec: LatentSpec
    codec: str | None
    """The codec's name, for looking it up in the zoo; the codec id in the spec is decisive."""
    latent_shape: tuple[int, ...]
    """(K, h, w), or (K, t) for audio."""
    signal_shape: tuple[int, ...]
    """(C, H, W), or (C, T), before padding to the codec's stride; decoding crops to it."""
    layout: Layout
    codes_crc32c: int
    """CRC-32C of the codes, channel after channel."""

    @property
    def num_codes(self) -> int:
        """Number of codes, including the mosaic's padding."""
        height, width = self.layout.sides
        return self.layout.mosaic.planes * height * width

    def to_text(self) -> bytes:
        """Return canonical JSON that includes its own CRC-32C."""
        fields = self._fields()
        return canonical_json({**fields, "crc32c": crc32c(canonical_json(fields))})

    def _fields(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "spec": self.spec.to_json(),
            "codec": self.codec,
            "latent_shape": list(self.latent_shape),
            "signal_shape": list(self.signal_shape),
            "mosaic": dataclasses.asdict(self.layout.mosaic),
            "tile_shape": list(self.layout.tile),
            "codes_crc32c": self.codes_crc32c,
        }

    @classmethod
    def from_text(cls, text: bytes) -> ArchiveInfo:
        """Parse untrusted bytes: the inverse of `to_text`.

        Raises `PictureError` for invalid metadata, `CallError` for intact metadata of another format version.
        """
        try:
            fields = Fields(parse_json(text), "metadata")
            _require_intact(fields)
            info = cls(
                spec=from_json(LatentSpec, fields.get("spec"), f"{fields.where}, spec"),
                codec=None if fields.get("codec") is None else fields.text("codec"),
                latent_shape=_sizes(fields, "latent_shape"),
                signal_shape=_sizes(fields, "signal_shape"),
                layout=_layout(fields),
                codes_crc32c=fields.integer("codes_crc32c"),
            )
            fields.require_names({*info._fields(), "crc32c"})
        except DamagedError as error:
            raise PictureError(str(error).removesuffix(f"; {REMEDY}")) from error
        except CallError:
            raise
        except ValueError as error:
            raise PictureError(f"metadata are not readable as JSON ({error})") from error
        if problem := inconsistency(info):
            raise PictureError(f"metadata: {problem}")
        return info


def inconsistency(info: ArchiveInfo) -> str | None:
    """Describe the first contradiction between shapes, spec and layout; None if there is none."""
    spec, layout = info.spec, info.layout
    dimensions = 3 if spec.kind == "image" else 2
    for name, shape, channels in (
        ("latent", info.latent_shape, spec.latent_channels),
        ("signal", info.signal_shape, spec.source_channels),
    ):
        if len(shape) != dimensions or shape[0] != channels:
            return f"{name} shape is {list(shape)}, expected {dimensions} sizes and {channels} channels of {spec.kind}"
    grid, extent = info.latent_shape[1:], info.signal_shape[1:]
    if any(size > (steps - spec.extra_frames) * spec.stride for steps, size in zip(grid, extent, strict=True)):
        return f"a signal of {list(extent)} is larger than a latent of {list(grid)} at stride {spec.stride} holds"
    rows, columns = layout.tile
    if grid != layout.tile if len(grid) == 2 else not rows * columns - columns < grid[0] <= rows * columns:
        return f"tiles of {list(layout.tile)} do not hold a latent of {list(grid)}"
    num_tiles = -(-info.latent_shape[0] // layout.mosaic.planes)
    if layout.mosaic.rows > num_tiles or layout.mosaic.columns != -(-num_tiles // layout.mosaic.rows):
        return f"a mosaic of {layout.mosaic.num_tiles} tiles does not fit {info.latent_shape[0]} channels"
    return None


def _require_intact(fields: Fields) -> None:
    stated = fields.integer("crc32c")
    others = {name: value for name, value in fields.values.items() if name != "crc32c"}
    if crc32c(canonical_json(others)) != stated:
        raise PictureError("metadata fail their CRC-32C")
    if fields.get("format") != FORMAT:
        raise PictureError(f"metadata of format {fields.get('format')!r}, expected {FORMAT!r}")
    version = fields.integer("format_version", 1)
    if version != FORMAT_VERSION:
        raise CallError(f"archive of format version {version}, this program reads {FORMAT_VERSION}; update walloc-cdl")


def _sizes(fields: Fields, name: str) -> tuple[int, ...]:
    return tuple(require_integer(size, f"{fields.where}, {name}", 1) for size in fields.items(name))


def _layout(fields: Fields) -> Layout:
    mosaic = fields.object("mosaic")
    mosaic.require_names({"planes", "rows", "columns"})
    tile = _sizes(fields, "tile_shape")
    if len(tile) != 2:
        raise PictureError(f"metadata: a tile of {len(tile)} sides, expected 2")
    counts = (mosaic.integer(name, 1) for name in ("planes", "rows", "columns"))
    return Layout(Mosaic(*counts), (tile[0], tile[1]))
