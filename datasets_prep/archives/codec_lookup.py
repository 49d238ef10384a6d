"""The codec that an archive was made with: the one that is given, or the one that it records."""

from __future__ import annotations

from walloc_cdl.codec import Codec, load_codec, zoo_names
from walloc_cdl.codec.io.zoo import RESIZE_NAME
from walloc_cdl.errors import CallError
from walloc_cdl.latents.archive import ArchiveInfo
from walloc_cdl.spec import LatentSpec


class CodecLookup:
    """Finds codecs for archives, each loaded once.

    What an archive records is only ever compared with the names and ids of the zoo, never opened as a path.
    """

    def __init__(self, codec: Codec | None = None) -> None:
        self._given = codec
        self._found: dict[str, tuple[Codec, LatentSpec]] = {}
        if codec is not None:
            spec = codec.spec
            self._found[spec.codec_id] = codec, spec

    def given(self, origin: str) -> tuple[Codec, LatentSpec]:
        """The codec of the call; `CallError` without one, since `origin` does not tell."""
        if self._given is None:
            raise CallError(f"{origin} does not record which codec made it; name the codec (--codec)")
        return next(iter(self._found.values()))

    def recorded(self, info: ArchiveInfo, origin: str) -> tuple[Codec, LatentSpec]:
        """The codec of an archive; `SpecMismatchError`, naming both ids, where another one was given."""
        codec_id = info.spec.codec_id
        if codec_id not in self._found:
            if self._given is not None:
                codec, spec = self.given(origin)
                info.spec.require_equal(spec, name=origin, other_name=f"codec {codec.name}")
            self._found[codec_id] = _from_zoo(info, origin)
        codec, spec = self._found[codec_id]
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
