"""Lookup of the codec that an archive was made with: the caller's, or the one that the archive records."""

from __future__ import annotations

from walloc_cdl.codec import Codec, load_codec, zoo_names
from walloc_cdl.codec.io.zoo import RESIZE_NAME
from walloc_cdl.errors import CallError
from walloc_cdl.latents.archive import ArchiveInfo
from walloc_cdl.spec import LatentSpec


class CodecLookup:
    """Finds codecs for archives and loads each once.

    `codec` is the caller's, if any. The codec that an archive records is compared with the names and ids of the zoo;
    it is never opened as a path.
    """

    def __init__(self, codec: Codec | None = None) -> None:
        self._given = codec
        self._loaded: dict[str, tuple[Codec, LatentSpec]] = {}
        if codec is not None:
            spec = codec.spec
            self._loaded[spec.codec_id] = codec, spec

    def given_codec(self, origin: str) -> tuple[Codec, LatentSpec]:
        """Return the caller's codec and its spec; raises `CallError` without one, since `origin` records none."""
        if self._given is None:
            raise CallError(f"{origin} does not record which codec made it; name the codec (--codec)")
        return next(iter(self._loaded.values()))

    def recorded_codec(self, info: ArchiveInfo, origin: str) -> tuple[Codec, LatentSpec]:
        """Return the codec that an archive records, with as many bit planes as the archive, if any, and its spec.

        Raises `SpecMismatchError`, naming both ids, if the caller's codec is another one, and `CallError` for a codec
        that does not ship with the package.
        """
        codec_id = info.spec.codec_id
        if codec_id not in self._loaded:
            if self._given is not None:
                codec, spec = self.given_codec(origin)
                info.spec.require_equal(spec, name=origin, other_name=f"codec {codec.name}")
            self._loaded[codec_id] = _from_zoo(info, origin)
        codec, spec = self._loaded[codec_id]
        if info.spec.num_planes < spec.num_planes and info.spec.planes is not None:
            codec, spec = codec.for_latents(info.spec), spec.with_planes(info.spec.num_planes)
        info.spec.require_equal(spec, name=origin, other_name=f"codec {codec.name}")
        return codec, spec


def _from_zoo(info: ArchiveInfo, origin: str) -> tuple[Codec, LatentSpec]:
    names = zoo_names()
    if info.codec is not None and RESIZE_NAME.fullmatch(info.codec):
        names = [info.codec]
    for name in names:
        codec = load_codec(name)
        if (spec := codec.spec).codec_id == info.spec.codec_id:
            return codec, spec
    name = f"codec {info.codec!r}" if info.codec else "a codec"
    raise CallError(
        f"{origin} was made with {name} of id {info.spec.codec_id[:12]}, which does not ship with the package; "
        "give the folder of that codec (--codec)"
    )
