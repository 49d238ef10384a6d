"""Signal to latent and back: wavelet packets, bottleneck, codecs, their closed-form fit and the zoo."""

from walloc_cdl.codec.base import Codec, to_bytes, to_unit_range
from walloc_cdl.codec.checkpoint import codec_from_files, load_codec_folder
from walloc_cdl.codec.resize import ResizeCodec, ResizeConfig
from walloc_cdl.codec.walloc import WallocCodec2D, WallocConfig
from walloc_cdl.codec.zoo import load_codec, zoo_names

__all__ = [
    "Codec",
    "ResizeCodec",
    "ResizeConfig",
    "WallocCodec2D",
    "WallocConfig",
    "codec_from_files",
    "load_codec",
    "load_codec_folder",
    "to_bytes",
    "to_unit_range",
    "zoo_names",
]
