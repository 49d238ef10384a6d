"""Codecs, which map signals to latents and back: wavelet packets, bottleneck, codec families, fits and the zoo."""

from walloc_cdl.codec.base import Codec, to_bytes, to_pcm, to_unit_range
from walloc_cdl.codec.families.resize import ResizeCodec, ResizeConfig
from walloc_cdl.codec.families.resize_1d import ResizeCodec1D, ResizeConfig1D
from walloc_cdl.codec.families.walloc import WallocCodec, WallocConfig
from walloc_cdl.codec.families.walloc_1d import WallocCodec1D, WallocConfig1D
from walloc_cdl.codec.families.walloc_2d import WallocCodec2D, WallocConfig2D
from walloc_cdl.codec.families.walloc_residual import ResidualCodec2D, ResidualConfig2D
from walloc_cdl.codec.io.folder import codec_from_files, load_codec_folder
from walloc_cdl.codec.io.zoo import load_codec, zoo_names

__all__ = [
    "Codec",
    "ResidualCodec2D",
    "ResidualConfig2D",
    "ResizeCodec",
    "ResizeCodec1D",
    "ResizeConfig",
    "ResizeConfig1D",
    "WallocCodec",
    "WallocCodec1D",
    "WallocCodec2D",
    "WallocConfig",
    "WallocConfig1D",
    "WallocConfig2D",
    "codec_from_files",
    "load_codec",
    "load_codec_folder",
    "to_bytes",
    "to_pcm",
    "to_unit_range",
    "zoo_names",
]
