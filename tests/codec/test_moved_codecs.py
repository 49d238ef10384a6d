"""A codec that is moved, shared, copied, pickled, compiled or edited gives the codes of its weights.

Everything that a codec keeps between calls must survive this: compiled encoders, whose memory must not be that of a
parameter, since a parameter's memory is released when it moves, and operators that are cached for all codecs.
"""

import copy
import io
import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tests.support.encoding_set import EncodingSet
from walloc_cdl.codec import (
    ResidualCodec2D,
    ResidualConfig2D,
    ResizeCodec,
    ResizeConfig,
    WallocCodec1D,
    WallocCodec2D,
    WallocConfig1D,
    WallocConfig2D,
    load_codec,
)
from walloc_cdl.codec.families.resize_1d import ResizeCodec1D, ResizeConfig1D
from walloc_cdl.compat import walloc
from walloc_cdl.kernels.cpu import fused

CODECS = {
    **{name: lambda name=name: load_codec(name) for name in ("rgb-16x", "rgb-4x", "gray-16x", "mono-16x", "stereo-5x")},
    "stages": lambda: ResidualCodec2D(ResidualConfig2D(3, 2, 4, stages=2)),
    "full encoder of images": lambda: WallocCodec2D(WallocConfig2D(3, 2, 8, encoder="full", encoder_width=32)),
    "frames of padding": lambda: WallocCodec1D(WallocConfig1D(2, 6, 20, padding=1)),
    "full encoder of audio": lambda: WallocCodec1D(
        WallocConfig1D(1, 5, 8, padding=1, encoder="full", encoder_width=16)
    ),
    "resize": lambda: ResizeCodec(ResizeConfig(3, 4)),
    "resize-1d": lambda: ResizeCodec1D(ResizeConfig1D(2, 4)),
    "compat": lambda: walloc.LinearCodec2D(3, 3, 12, 8),
}
WITH_LINEAR_ENCODER = ["rgb-16x", "rgb-4x", "gray-16x", "mono-16x", "stereo-5x", "frames of padding", "compat"]


def make(name):
    """Return a codec and a signal."""
    torch.manual_seed(1)
    codec = CODECS[name]()
    if codec.kind == "image":
        return codec, torch.randint(0, 256, (2, codec.source_channels, 48, 64), dtype=torch.uint8)
    return codec, torch.randint(-(2**15), 2**15, (2, codec.source_channels, 4096), dtype=torch.int16)


def saved_and_loaded(codec):
    file = io.BytesIO()
    torch.save(codec, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)


def with_new_memory(codec):
    for parameter in codec.parameters():
        parameter.data = parameter.data.clone()
    return codec


def with_new_state(codec, *, assign):
    codec.load_state_dict({name: tensor.clone() for name, tensor in codec.state_dict().items()}, assign=assign)
    return codec


MOVES = {
    "share_memory": lambda codec: codec.share_memory(),
    "to another type and back": lambda codec: codec.to(torch.float64).to(torch.float32),
    "new memory": with_new_memory,
    "load_state_dict": lambda codec: with_new_state(codec, assign=False),
    "load_state_dict that assigns": lambda codec: with_new_state(codec, assign=True),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda codec: pickle.loads(pickle.dumps(codec)),
    "torch.save": saved_and_loaded,
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("name", CODECS)
def test_a_moved_codec_and_the_original_give_the_same_codes(name, move):
    codec, signal = make(name)
    before = codec.encode(signal)
    moved = MOVES[move](codec)
    assert torch.equal(moved.encode(signal), before)
    assert torch.equal(codec.encode(signal), before)


@pytest.mark.parametrize("move", [*MOVES, "no move"])
@pytest.mark.parametrize("name", WITH_LINEAR_ENCODER)
def test_a_moved_codec_follows_its_weights(name, move):
    codec, signal = make(name)
    codec.encode(signal)
    moved = MOVES.get(move, lambda codec: codec)(codec)
    moved.encode(signal)
    for parameter in (moved.encoder[0].weight, moved.encoder[0].bias):
        parameter.data.mul_(-0.5)  # not counted by torch
        expected = CODECS[name]()
        expected.load_state_dict(moved.state_dict())
        assert torch.equal(moved.encode(signal), expected.encode(signal))


@pytest.mark.parametrize("name", WITH_LINEAR_ENCODER)
def test_compiled_encoders_have_memory_of_their_own(name):
    codec, signal = make(name)
    fresh = len(pickle.dumps(codec))
    codec.encode(signal)
    assert len(pickle.dumps(codec)) == fresh
    encoder = codec._compiled._encoder
    arrays = [encoder._bias, *encoder._weights.values()]
    if (detached := codec.detached_encoder()) is not None:
        arrays += detached._arrays
    for array in arrays:
        for parameter in codec.parameters():
            assert not np.shares_memory(array, parameter.detach().numpy())


def test_weights_that_are_trained_while_the_encoder_is_built_are_noticed(monkeypatch):
    codec, signal = make("rgb-16x")
    build = fused.FusedEncoder.__init__

    def trained_meanwhile(self, *arguments, **options):
        build(self, *arguments, **options)
        monkeypatch.setattr(fused.FusedEncoder, "__init__", build)
        with torch.no_grad():
            codec.encoder[0].weight.mul_(-1)

    monkeypatch.setattr(fused.FusedEncoder, "__init__", trained_meanwhile)
    codec.encode(signal)
    expected, _ = make("rgb-16x")
    expected.load_state_dict(codec.state_dict())
    assert torch.equal(codec.encode(signal), expected.encode(signal))


@pytest.mark.parametrize("name", CODECS)
def test_torch_compile_gives_the_same_codes(name):
    codec, signal = make(name)
    before = codec.encode(signal)
    compiled = torch.compile(codec.encode, backend="eager")
    assert torch.equal(compiled(signal), before)
    codec.share_memory()
    assert torch.equal(compiled(signal), before)


@pytest.mark.parametrize("name", ["rgb-16x", "mono-16x", "stages"])
def test_gradients_can_be_computed_after_inference_mode(name):
    codec, signal = make(name)
    codec.train()
    with torch.inference_mode():
        codec.encode(signal)
        codec(signal)
    codec(signal).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in codec.parameters())


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_workers_of_a_loader_and_their_parent_give_the_same_codes(method):
    codecs, signals = zip(*map(make, CODECS), strict=True)
    before = [codec.encode(signal) for codec, signal in zip(codecs, signals, strict=True)]
    loader = DataLoader(EncodingSet(codecs, signals), batch_size=None, num_workers=1, multiprocessing_context=method)
    for name, expected, found in zip(CODECS, before, loader, strict=True):
        assert torch.equal(found, expected), name
    for name, codec, signal, expected in zip(CODECS, codecs, signals, before, strict=True):
        assert torch.equal(codec.encode(signal), expected), name
