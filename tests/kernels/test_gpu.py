"""The GPU kernels in Triton's interpreter, compared with matrices in float64 and with the plain path."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.kernels.test_fused import exact_codes, random_encoder
from tests.support.interpreted import interpret_kernels
from walloc_cdl.kernels.filters import analysis_matrix
from walloc_cdl.kernels.gpu import encode
from walloc_cdl.kernels.gpu.encode import GpuEncoder, runs_kernels
from walloc_cdl.kernels.gpu.lookup import lookup, lookup_codes, plain_lookup
from walloc_cdl.kernels.gpu.operators import fold_filters, folded_bytes, window_blocks
from walloc_cdl.kernels.packets import packet_encode
from walloc_cdl.spec import companded_limit, companding_scale

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(not encode.has_triton(), reason="triton is not installed")


@pytest.fixture(autouse=True)
def interpreter(monkeypatch):
    yield from interpret_kernels(monkeypatch)


def make_signal(kind, shape, seed=0):
    """Return a signal of random samples, and the same signal in ±0.5 as float64."""
    rng = np.random.default_rng(seed)
    if kind == "uint8":
        signal = rng.integers(0, 256, shape, dtype=np.uint8)
        return torch.from_numpy(signal), signal / 255 - 0.5
    if kind == "int16":
        signal = rng.integers(-(2**15), 2**15, shape).astype(np.int16)
        return torch.from_numpy(signal), signal / 65536
    signal = torch.from_numpy(rng.random(shape) - 0.5).to(getattr(torch, kind))
    return signal, signal.double().numpy()


def assert_codes(codes, exact):
    """Assert that no code differs by more than one, and that 99.9 % are nearest to the exact value."""
    assert codes.dtype == torch.uint8
    assert codes.shape == exact.shape
    assert np.abs(codes.numpy() - exact).max() < 0.502
    assert (codes.numpy() != np.round(exact)).sum() <= 2 + 1e-3 * exact.size


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


IMAGES = [
    # channels, levels, latents, (height, width), type
    (3, 3, 12, (24, 40), "uint8"),
    (1, 3, 4, (72, 8), "uint8"),
    (1, 3, 5, (8, 136), "bfloat16"),
    (1, 1, 3, (6, 10), "uint8"),
    (2, 2, 20, (8, 12), "float16"),
    (1, 4, 3, (16, 80), "uint8"),
    (1, 5, 3, (32, 32), "uint8"),
    slow(3, 3, 48, (64, 64), "uint8"),
    slow(3, 3, 12, (72, 136), "uint8"),
    slow(3, 3, 12, (200, 120), "float32"),
    slow(2, 3, 100, (16, 24), "float64"),
    slow(3, 1, 12, (66, 130), "uint8"),
    slow(9, 2, 7, (20, 68), "uint8"),
    slow(1, 4, 70, (32, 80), "float32"),
    slow(2, 5, 70, (160, 96), "uint8"),
]


@pytest.mark.parametrize(("channels", "levels", "latents", "sides", "kind"), IMAGES)
def test_codes_of_images_are_those_of_float64_matrices(channels, levels, latents, sides, kind):
    _, weight, bias = random_encoder(channels, levels, latents, 2)
    signal, exact = make_signal(kind, (1, channels, *sides))
    encoder = GpuEncoder(weight, bias, levels=levels, dimensions=2, bits=8, device=CPU)
    assert_codes(encoder.encode(signal), exact_codes(exact, weight, bias, levels, 2))


SEQUENCES = [
    # channels, levels, latents, length, type
    (2, 8, 20, 256 * 3, "int16"),
    (2, 3, 9, 8 * 70, "float32"),
    (1, 1, 2, 6, "int16"),
    (1, 6, 70, 64 * 3, "float64"),
    slow(2, 8, 108, 256 * 9, "int16"),
    slow(1, 8, 16, 256, "float32"),
    slow(3, 5, 8, 32 * 67, "int16"),
]


@pytest.mark.parametrize(("channels", "levels", "latents", "length", "kind"), SEQUENCES)
def test_codes_of_sequences_are_those_of_float64_matrices(channels, levels, latents, length, kind):
    _, weight, bias = random_encoder(channels, levels, latents, 1)
    signal, exact = make_signal(kind, (2, channels, length))
    encoder = GpuEncoder(weight, bias, levels=levels, dimensions=1, bits=8, device=CPU)
    assert_codes(encoder.encode(signal), exact_codes(exact, weight, bias, levels, 1))


@pytest.mark.parametrize("bits", [2, 5, 8])
def test_all_bits_over_the_whole_range_of_latents(bits):
    """Weights of zero and biases that exceed both ends of the companding, so that each latent is a bias."""
    values = np.linspace(-8, 8, 257, dtype=np.float32) * np.float32(companding_scale(bits))
    encoder = GpuEncoder(np.zeros((257, 4)), values, levels=1, dimensions=2, bits=bits, device=CPU)
    codes = encoder.encode(torch.zeros(1, 1, 2, 2))[0, :, 0, 0].numpy()
    companded = companded_limit(bits) * torch.erf(torch.from_numpy(values).double() / (companding_scale(bits) * 2**0.5))
    assert (codes == np.round(companded.numpy()) + 2 ** (bits - 1)).all()
    assert (codes.min(), codes.max()) == (1, 2**bits - 1)


@pytest.mark.parametrize("power", [-30, 30])
def test_weights_of_any_magnitude_keep_their_precision(power):
    """The mix is scaled by a power of two for each latent, since the exponent range of float16 is small."""
    _, weight, bias = random_encoder(1, 2, 4, 2)
    signal, exact = make_signal("uint8", (1, 1, 16, 16))
    weight[1] *= 2.0**power
    bias[1] = 0
    encoder = GpuEncoder(weight, bias, levels=2, dimensions=2, bits=8, device=CPU)
    assert_codes(encoder.encode(signal), exact_codes(exact, weight, bias, 2, 2))


def test_the_plain_path_gives_the_same_codes_except_for_ties():
    _, weight, bias = random_encoder(3, 3, 12, 2)
    pixels = torch.randint(0, 256, (1, 3, 128, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    latents = packet_encode(pixels, torch.from_numpy(weight), torch.from_numpy(bias), 3)
    plain = (companded_limit(8) * torch.erf(latents / (companding_scale(8) * 2**0.5))).round() + 128
    codes = GpuEncoder(weight, bias, levels=3, dimensions=2, bits=8, device=CPU).encode(pixels)
    assert (codes != plain).float().mean() < 1e-3
    assert (codes - plain).abs().max() <= 1
    assert codes.unique().numel() > 200


def test_neither_batch_nor_strides_change_a_code():
    _, weight, bias = random_encoder(2, 2, 4, 2)
    encoder = GpuEncoder(weight, bias, levels=2, dimensions=2, bits=8, device=CPU)
    pixels, _ = make_signal("uint8", (2, 2, 12, 20))
    expected = encoder.encode(pixels)
    assert torch.equal(torch.cat([encoder.encode(image[None]) for image in pixels]), expected)
    channels_last = pixels.to(memory_format=torch.channels_last)
    assert torch.equal(encoder.encode(channels_last), expected)
    assert encoder.encode(pixels[:0]).shape == (0, 4, 3, 5)


def test_floats_beyond_the_range_of_signals_saturate():
    encoder = GpuEncoder(np.full((1, 32), 9.0), np.zeros(1), levels=5, dimensions=1, bits=8, device=CPU)
    for value in (1e4, 1e30, float("inf")):
        assert encoder.encode(torch.full((1, 1, 32), value)).item() == 255
        assert encoder.encode(torch.full((1, 1, 32), -value)).item() == 1


@pytest.mark.parametrize("levels", [1, 3, 5])
def test_folded_filters_are_the_mixed_rows_of_the_analysis(levels):
    num = 2**levels
    weight = np.random.default_rng(levels).normal(size=(3, 2, num))
    length = 32 * num
    rows = analysis_matrix(length, levels)[16 * num : 17 * num]
    expected = np.einsum("kcf,fs->kcs", weight, rows)
    np.testing.assert_allclose(fold_filters(weight), expected[:, :, 12 * num : 20 * num], atol=1e-12)
    assert np.abs(expected[:, :, : 12 * num]).max() == np.abs(expected[:, :, 20 * num :]).max() == 0


def test_windows_and_filters_that_are_too_large():
    assert [window_blocks(levels) for levels in range(1, 6)] == [2, 2, 2, 3, 5]
    assert folded_bytes(108, 2, 8) == 2 * 2 * 2 * 2048 * 128
    assert GpuEncoder.fits((108, 512, 1), levels=8, dimensions=1, device=CPU)
    assert not GpuEncoder.fits((2048, 4096, 1), levels=12, dimensions=1, device=CPU)
    assert GpuEncoder.fits((3072, 3072, 1, 1), levels=5, dimensions=2, device=CPU)


def test_one_level_needs_more_shared_memory_than_small_gpus_have(monkeypatch):
    for shared, levels, fits in ((101_376, 1, False), (166_912, 1, True), (101_376, 3, True), (65_536, 3, False)):
        properties = SimpleNamespace(shared_memory_per_block_optin=shared)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device, properties=properties: properties)
        shape, device = (3, 3 * 4**levels, 1, 1), torch.device("cuda", 0)
        assert GpuEncoder.fits(shape, levels=levels, dimensions=2, device=device) == fits


def test_the_operators_are_opaque_to_torch_compile():
    _, weight, bias = random_encoder(1, 1, 3, 2)
    image = GpuEncoder(weight, bias, levels=1, dimensions=2, bits=8, device=CPU)
    pixels, _ = make_signal("uint8", (1, 1, 8, 8))
    _, weight, bias = random_encoder(1, 3, 3, 1)
    sequence = GpuEncoder(weight, bias, levels=3, dimensions=1, bits=8, device=CPU)
    samples, _ = make_signal("int16", (1, 1, 64))

    def both(pixels, samples):
        return image.encode(pixels).float() * 2, sequence.encode(samples).float() * 2

    compiled = torch.compile(both, backend="eager", fullgraph=True)
    for found, expected in zip(compiled(pixels, samples), both(pixels, samples), strict=True):
        assert torch.equal(found, expected)


SHAPES = [((7, 12, 8, 8), 12), ((5, 3, 5, 7), None), ((4, 2, 70), 2), ((3, 1, 80, 80), 1), ((3, 2, 1), 2)]


@pytest.mark.parametrize(("shape", "tables"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_looked_up_values_are_those_of_the_plain_path(shape, tables, dtype):
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    table = torch.randn((tables, 256) if tables else (256,), generator=generator)
    for rows in (None, torch.tensor([2, 0, 2, 1]), torch.tensor([], dtype=torch.int64)):
        expected = plain_lookup(codes, table, rows, dtype)
        assert torch.equal(lookup(codes, table, rows, dtype), expected)
        assert torch.equal(lookup_codes(codes, table, rows=rows, dtype=dtype), expected)
        reference = (codes if rows is None else codes[rows]).long()
        values = table if tables else table.expand(shape[1], 256)
        by_hand = torch.stack([values[k].to(dtype)[reference[:, k]] for k in range(shape[1])], 1)
        assert torch.equal(expected, by_hand)


def test_a_trainable_table_and_a_compiled_lookup_use_the_plain_path():
    codes = torch.randint(0, 256, (2, 3, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    table = torch.randn(3, 256, requires_grad=True)
    lookup_codes(codes, table).sum().backward()
    assert table.grad.sum() == codes.numel()
    compiled = torch.compile(lambda x: lookup_codes(x, table.detach()), backend="eager", fullgraph=True)
    assert torch.equal(compiled(codes), plain_lookup(codes, table.detach(), None, torch.float32))


def test_kernels_run_where_they_can(monkeypatch):
    assert runs_kernels(CPU)
    assert not runs_kernels(torch.device("meta"))
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    assert not runs_kernels(CPU)
    cuda = torch.device("cuda", 0)
    for capability, runs in (((9, 0), True), ((8, 0), True), ((7, 5), False)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, capability=capability: capability)
        assert runs_kernels(cuda) == runs
    monkeypatch.setattr(encode, "has_triton", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert not runs_kernels(cuda)


def test_an_encoder_can_be_copied():
    _, weight, bias = random_encoder(1, 1, 3, 2)
    encoder = GpuEncoder(weight, bias, levels=1, dimensions=2, bits=8, device=CPU)
    pixels, _ = make_signal("uint8", (1, 1, 8, 8))
    assert torch.equal(copy.deepcopy(encoder).encode(pixels), encoder.encode(pixels))
