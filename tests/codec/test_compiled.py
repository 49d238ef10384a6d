"""`encode` uses the compiled path automatically where it can; the result differs from the plain path only by ties."""

import copy
import pickle
import subprocess
import sys

import pytest
import torch

from tests.support.planes import plane_codec, smooth_images
from walloc_cdl.codec import (
    ResidualCodec2D,
    ResidualConfig2D,
    WallocCodec1D,
    WallocCodec2D,
    WallocConfig1D,
    WallocConfig2D,
    load_codec,
)
from walloc_cdl.kernels.cpu import fused

CODECS = {
    "rgb": lambda: WallocCodec2D(WallocConfig2D(3, 3, 12)),
    "nine channels, one level, 5 bits": lambda: WallocCodec2D(WallocConfig2D(9, 1, 7, bits=5)),
    "stages": lambda: ResidualCodec2D(ResidualConfig2D(3, 2, 4, stages=2)),
    "mono": lambda: WallocCodec1D(WallocConfig1D(1, 5, 8)),
    "stereo with frames of padding": lambda: WallocCodec1D(WallocConfig1D(2, 8, 20, padding=1)),
}


@pytest.fixture
def calls(monkeypatch):
    """The shapes of the signals passed to the compiled encoder."""
    shapes, encode = [], fused.FusedEncoder.encode

    def recorded(self, signal, num_threads=1):
        shapes.append(signal.shape)
        return encode(self, signal, num_threads)

    monkeypatch.setattr(fused.FusedEncoder, "encode", recorded)
    return shapes


def make(name):
    torch.manual_seed(1)
    codec = CODECS[name]()
    with torch.no_grad():
        layers = codec.encoders if isinstance(codec, ResidualCodec2D) else [codec.encoder[0]]
        for layer in layers:
            layer.weight.normal_(0, 300 / layer.in_channels**0.5)
            layer.bias.normal_(0, 30)
    return codec


def signals(codec):
    generator = torch.Generator().manual_seed(0)
    if codec.kind == "image":
        shape = (5, codec.source_channels, 96, 160)
        yield torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    else:
        shape = (5, codec.source_channels, 8192)
        yield torch.randint(-(2**15), 2**15, shape, dtype=torch.int16, generator=generator)
    yield torch.rand(shape, generator=generator) - 0.5
    yield torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5


@pytest.mark.parametrize("name", CODECS)
def test_the_codes_are_those_of_the_plain_path(name, calls):
    codec = make(name)
    for signal in signals(codec):
        plain = codec._quantize(codec.latents(signal))
        found = codec.encode(signal)
        assert found.dtype == plain.dtype
        assert found.shape == plain.shape
        assert (found != plain).float().mean() < 1e-3
        assert (found.int() - plain.int()).abs().max() <= 1
        assert found.unique().numel() > 20
    assert len(calls) == (0 if name == "stages" else 3)


def test_codes_follow_the_weights(calls):
    codec = make("rgb")
    pixels = next(signals(codec))
    before = codec.encode(pixels)
    twin = copy.deepcopy(codec)
    with torch.no_grad():
        codec.encoder[0].weight.mul_(-1)
        codec.encoder[0].bias.mul_(-1)
    assert ((before.int() + codec.encode(pixels).int() - 256).abs() <= 1).all()
    assert torch.equal(twin.encode(pixels), before)
    assert len(calls) == 3


def test_codes_do_not_depend_on_batch_or_threads():
    codec = load_codec("rgb-16x")
    pixels = next(signals(codec))
    together, threads = codec.encode(pixels), torch.get_num_threads()
    torch.set_num_threads(2 if threads == 1 else 1)
    try:
        assert torch.equal(codec.encode(pixels), together)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.cat([codec.encode(image[None]) for image in pixels]), together)


@pytest.mark.parametrize("reason", ["double weights", "signal that asks for a gradient"])
def test_the_plain_path_is_used_where_the_compiled_one_cannot_run(reason, calls):
    codec = make("rgb")
    pixels = next(signals(codec)).float() / 255 - 0.5
    expected = codec.encode(pixels)
    calls.clear()
    if reason == "double weights":
        codec = codec.double()
    else:
        pixels.requires_grad_()
    assert (codec.encode(pixels) != expected).float().mean() < 1e-3
    assert bool(calls) == (reason == "signal that asks for a gradient")


@pytest.mark.parametrize("name", CODECS)
def test_a_detached_encoder_gives_the_same_codes_without_torch(name):
    codec = make(name)
    detached = codec.detached_encoder()
    assert (detached is None) == (name in ("stages", "stereo with frames of padding"))
    if detached is None:
        return
    program = "import pickle, sys, numpy as np; encoder, signal = pickle.load(sys.stdin.buffer)\n"
    program += (
        "codes = encoder.encode(signal); assert 'torch' not in sys.modules; pickle.dump(codes, sys.stdout.buffer)"
    )
    for signal in signals(codec):
        given = pickle.dumps((detached, signal.numpy()))
        done = subprocess.run([sys.executable, "-c", program], input=given, capture_output=True, check=True)
        assert torch.equal(torch.from_numpy(pickle.loads(done.stdout)), codec.encode(signal))


def test_a_detached_encoder_of_bit_planes_encodes_to_rows_without_torch():
    codec = plane_codec().with_planes(21)
    program = "import pickle, sys, numpy as np; encoder, signal = pickle.load(sys.stdin.buffer)\n"
    program += (
        "rows = encoder.encode_rows(signal); assert 'torch' not in sys.modules; pickle.dump(rows, sys.stdout.buffer)"
    )
    signal = torch.stack(smooth_images(count=3))
    given = pickle.dumps((codec.detached_encoder(), signal.numpy()))
    done = subprocess.run([sys.executable, "-c", program], input=given, capture_output=True, check=True)
    assert torch.equal(torch.from_numpy(pickle.loads(done.stdout)), codec.encode_rows(signal))


def test_a_detached_encoder_keeps_the_weights_it_was_created_with():
    codec = make("rgb")
    detached, signal = codec.detached_encoder(), next(signals(codec))
    before = codec.encode(signal)
    with torch.no_grad():
        codec.encoder[0].weight.mul_(-1)
        codec.encoder[0].bias.mul_(-1)
    assert torch.equal(torch.from_numpy(detached.encode(signal.numpy())), before)
    assert not torch.equal(codec.encode(signal), before)
    assert codec.double().detached_encoder() is None
