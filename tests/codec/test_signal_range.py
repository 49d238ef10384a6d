"""`encode` refuses float signals of another range, NaN, and what is not a tensor, and says what to do."""

import numpy as np
import pytest
import torch
from PIL import Image

from walloc_cdl.codec import WallocCodec1D, WallocConfig1D, load_codec
from walloc_cdl.codec.tiles import encode_tiled
from walloc_cdl.compat import walloc
from walloc_cdl.errors import CallError

IMAGE = torch.linspace(-0.5, 0.5, 3 * 64 * 64).reshape(1, 3, 64, 64)
SOUND = torch.linspace(-0.5, 0.5, 2 * 8192).reshape(1, 2, 8192)

IMAGE_CODECS = ["rgb-16x", "resize-rgb-16x"]
AUDIO_CODECS = ["stereo-5x", "resize-stereo-4x"]
WRONG_IMAGES = {
    "0 to 1": (lambda x: x + 0.5, r"pixels from 0 to 1; expected float in \[-0.5, 0.5\].*; subtract 0.5$"),
    "0 to 255": (lambda x: (x + 0.5) * 255, "pixels from 0 to 255; .* divide by 255 and subtract 0.5$"),
    "normalized": (lambda x: (x + 0.0625) * 4, "pixels from -1.75 to 2.25; .*undo their normalization"),
    "infinite": (lambda x: x / 0, "pixels from -inf to inf; "),
    "one NaN": (lambda x: x.index_fill(3, torch.tensor([5]), torch.nan), "192 of 12,288 are NaN.*nan_to_num"),
}
WRONG_SOUNDS = {
    "-1 to 1": (lambda x: x * 2, r"samples from -1 to 1; .*; divide by 2$"),
    "PCM": (lambda x: x * 65536, "samples from -3.277e.04 to 3.277e.04; .*; convert to int16, or divide by 65536$"),
    "NaN": (lambda x: x * torch.nan, "16,384 of 16,384 are NaN"),
}
CASES = [
    *((name, IMAGE, *case) for name in IMAGE_CODECS for case in WRONG_IMAGES.values()),
    *((name, SOUND, *case) for name in AUDIO_CODECS for case in WRONG_SOUNDS.values()),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("name", "signal", "change", "message"), CASES)
def test_signals_of_another_range_are_refused(name, signal, change, message, dtype):
    codec = load_codec(name)
    with pytest.raises(CallError, match=message):
        codec.encode(change(signal).to(dtype))


@pytest.mark.parametrize("name", [*IMAGE_CODECS, *AUDIO_CODECS])
@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_signals_that_overshoot_a_little_are_encoded(name, factor):
    codec = load_codec(name)
    signal = factor * (IMAGE if codec.kind == "image" else SOUND)
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        assert codec.encode(signal.to(dtype)).dtype == torch.uint8
    if codec.kind == "image":
        assert codec.encode(signal[:0]).shape[0] == 0
    assert torch.compile(codec.encode, backend="eager")(signal).dtype == torch.uint8


def test_tiles_are_checked_with_every_kind_of_encoder():
    padded = WallocCodec1D(WallocConfig1D(2, 6, 20, padding=1))
    for codec, signal in ((load_codec("rgb-16x"), IMAGE), (load_codec("stereo-5x"), SOUND), (padded, SOUND)):
        encode_tiled(codec, signal[0], tile=8)
        with pytest.raises(CallError, match="; expected float in"):
            encode_tiled(codec, 4 * signal[0], tile=8)


def test_compat_takes_every_range_as_the_package_does():
    codec = walloc.LinearCodec2D(3, 3, 12, 8)
    for signal in (IMAGE + 0.5, 255 * IMAGE, torch.nan * IMAGE):
        assert codec.encode(signal).shape == (1, 12, 8, 8)
    encode_tiled(codec, 255 * IMAGE[0])


@pytest.mark.parametrize("name", [*IMAGE_CODECS, "gray-16x"])
def test_arrays_and_pictures_are_refused_with_the_call_that_converts_them(name):
    codec = load_codec(name)
    image = Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(64, 64, 3))
    with pytest.raises(CallError, match=r"pixels as PIL.Image.Image; expected a tensor") as raised:
        codec.encode(image)
    call = str(raised.value).rpartition("convert it by ")[2]
    converted = eval(call, {"torch": torch, "np": np, "image": image})
    assert codec.encode(converted).shape[2:] in ((8, 8), (16, 16))
    with pytest.raises(
        CallError, match=r"pixels as numpy.ndarray; expected a tensor.*; convert it by torch.from_numpy"
    ):
        codec.encode(converted.numpy())
    with pytest.raises(CallError, match=r"codes as numpy.ndarray; expected a tensor.*; convert it by torch.from_numpy"):
        codec.decode(codec.encode(converted).numpy())
    with pytest.raises(CallError, match=r"pixels as builtins.list; expected a tensor"):
        codec.encode([1, 2])
