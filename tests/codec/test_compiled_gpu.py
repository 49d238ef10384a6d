"""`encode` uses the GPU kernels automatically; here Triton's interpreter runs them, which precedes numba on the CPU."""

import copy
import pickle
import warnings

import pytest
import torch

from tests.support.interpreted import interpret_kernels
from tests.support.planes import plane_codec
from walloc_cdl.codec import WallocCodec1D, WallocCodec2D, WallocConfig1D, WallocConfig2D, compiled
from walloc_cdl.kernels.gpu import encode
from walloc_cdl.kernels.gpu.encode import GpuEncoder

pytestmark = pytest.mark.skipif(not encode.has_triton(), reason="triton is not installed")


@pytest.fixture(autouse=True)
def interpreter(monkeypatch):
    yield from interpret_kernels(monkeypatch)


@pytest.fixture
def calls(monkeypatch):
    """The shapes of the signals passed to the kernels."""
    shapes, encode = [], GpuEncoder.encode

    def recorded(self, signal):
        shapes.append(signal.shape)
        return encode(self, signal)

    monkeypatch.setattr(GpuEncoder, "encode", recorded)
    return shapes


CODECS = {
    "rgb": (lambda: WallocCodec2D(WallocConfig2D(3, 2, 12)), (1, 3, 16, 24)),
    "gray of 5 bits": (lambda: WallocCodec2D(WallocConfig2D(1, 1, 3, bits=5)), (2, 1, 6, 10)),
    "mono": (lambda: WallocCodec1D(WallocConfig1D(1, 3, 8)), (2, 1, 96)),
    "planes": (plane_codec, (1, 3, 16, 24)),
    "mono with planes": (lambda: plane_codec(1, levels=3, max_rate=2.0, kind="audio"), (2, 1, 96)),
    "a prefix of planes": (lambda: plane_codec().with_planes(20), (2, 3, 8, 16)),
    "stereo with frames of padding": (lambda: WallocCodec1D(WallocConfig1D(2, 5, 20, padding=1)), (1, 2, 160)),
}


def make(name):
    torch.manual_seed(1)
    build, shape = CODECS[name]
    codec = build()
    if codec.planes is None:
        with torch.no_grad():
            codec.encoder[0].weight.normal_(0, 300 / codec.encoder[0].in_channels ** 0.5)
            codec.encoder[0].bias.normal_(0, 30)
    generator = torch.Generator().manual_seed(0)
    low, high, dtype = (0, 256, torch.uint8) if codec.kind == "image" else (-(2**15), 2**15, torch.int16)
    return codec, torch.randint(low, high, shape, dtype=dtype, generator=generator)


def assert_equal_except_for_ties(found, plain):
    assert found.dtype == plain.dtype
    assert found.shape == plain.shape
    assert (found.int() - plain.int()).abs().max() <= 1
    assert (found != plain).sum() <= 1


@pytest.mark.parametrize("name", CODECS)
def test_the_codes_are_those_of_the_plain_path(name, calls):
    codec, signal = make(name)
    plain = codec._quantize(codec.latents(signal))
    assert_equal_except_for_ties(codec.encode(signal), plain)
    assert calls == [(1, *signal.shape[1:]), signal.shape]  # the first call is the self-test
    assert plain.unique().numel() > 8


def test_codes_follow_the_weights(calls):
    codec, pixels = make("gray of 5 bits")
    with torch.inference_mode():
        codec.encode(pixels)
    first = codec._compiled._encoder
    codec.encode(pixels)
    assert codec._compiled._encoder is first
    before = codec.encode(pixels)
    with torch.no_grad():
        codec.encoder[0].weight.mul_(-1)
        codec.encoder[0].bias.mul_(-1)
    assert ((before.int() + codec.encode(pixels).int() - 32).abs() <= 1).all()
    assert codec._compiled._encoder is not first
    other = make("gray of 5 bits")[0]
    codec.load_state_dict(other.state_dict())
    assert torch.equal(codec.encode(pixels), before)
    with torch.no_grad():
        codec.encoder[0].bias.copy_(torch.full((3,), 1e6))
    assert (codec.encode(pixels) == 31).all()
    assert len(calls) == 7


def test_inference_weights_are_compared_since_they_have_no_version_counter(calls):
    with torch.inference_mode():
        codec, pixels = make("gray of 5 bits")
        before = codec.encode(pixels)
        first = codec._compiled._encoder
        assert torch.equal(codec.encode(pixels), before)
        assert codec._compiled._encoder is first
        codec.encoder[0].bias.fill_(1e6)
        assert (codec.encode(pixels) == 31).all()
    assert len(calls) == 4


@pytest.mark.parametrize("reason", ["no triton", "double weights", "filters too large"])
def test_the_plain_path_is_used_where_the_kernels_cannot_run(reason, calls, monkeypatch):
    codec, samples = make("mono")
    expected = codec.encode(samples)
    calls.clear()
    if reason == "no triton":
        monkeypatch.setattr(compiled, "runs_kernels", lambda device: False)
    elif reason == "double weights":
        codec = codec.double()
    else:
        monkeypatch.setattr(encode, "MAX_TAPS_BYTES", 0)
    assert_equal_except_for_ties(codec.encode(samples), expected)
    assert not calls


def test_torch_compile_leaves_the_kernels_alone(calls):
    codec, pixels = make("gray of 5 bits")
    assert torch.equal(torch.compile(codec.encode, backend="eager")(pixels), codec.encode(pixels))


def fails(self, signal):
    raise RuntimeError("out of resource: shared memory\nand more")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (fails, r"RuntimeError: out of resource: shared memory"),
        (
            lambda self, signal: torch.zeros(1, 3, 3, 5, dtype=torch.uint8),
            r"\d+\.\d\d% of the codes differ, by up to 31",
        ),
        (
            lambda self, signal: torch.zeros(1, 3, dtype=torch.uint8),
            r"torch.uint8 \(1, 3\) instead of torch.uint8 \(1, 3, 3, 5\)",
        ),
    ],
)
def test_a_gpu_on_which_the_kernel_fails_uses_the_plain_path(broken, reason, monkeypatch):
    codec, pixels = make("gray of 5 bits")
    monkeypatch.setattr(GpuEncoder, "encode", broken)
    with pytest.warns(
        RuntimeWarning, match=f"the GPU's encoder does not work on cpu \\({reason}\\); the plain path is"
    ):
        first = codec.encode(pixels)
    assert torch.equal(first, codec._quantize(codec.latents(pixels)))
    with warnings.catch_warnings(action="error"):  # the warning is issued once
        assert torch.equal(codec.encode(pixels), first)


def test_a_copy_compiles_its_own_encoder_and_moved_weights_give_the_same_codes():
    codec, pixels = make("gray of 5 bits")
    fresh = len(pickle.dumps(codec))
    before = codec.encode(pixels)
    assert len(pickle.dumps(codec)) == fresh
    for twin in (copy.deepcopy(codec), pickle.loads(pickle.dumps(codec))):
        assert twin._compiled._encoder is None
        assert torch.equal(twin.encode(pixels), before)
    codec.share_memory()
    assert torch.equal(codec.encode(pixels), before)
