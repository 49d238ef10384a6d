import numpy as np
import pytest
import torch
from PIL import Image

from experiments.codec_picture import BASIS_GRID, basis_functions, draw_codec
from tests.support.pictures import picture
from walloc_cdl.codec import ResizeCodec, ResizeConfig, WallocCodec2D, WallocConfig2D, load_codec
from walloc_cdl.errors import CallError, DamagedError


def test_basis_functions_are_the_columns_of_the_linear_decoder():
    codec = load_codec("rgb-16x")
    basis = basis_functions(codec)
    assert basis.shape == (12, 3, BASIS_GRID * 8, BASIS_GRID * 8)
    values = torch.zeros(12, 12, BASIS_GRID, BASIS_GRID)
    values[range(12), range(12), BASIS_GRID // 2, BASIS_GRID // 2] = 1
    weight = codec.decoder[1].weight.detach()
    expected = codec.wavelet_synthesis(torch.nn.functional.conv2d(values, weight))
    torch.testing.assert_close(basis, expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("name", ["gray-16x", "resize-rgb-16x"])
def test_size_of_the_picture(name, tmp_path):
    out = tmp_path / "codec.png"
    size = draw_codec(load_codec(name), out)
    with Image.open(out) as drawn:
        assert drawn.size == size
        pixels = np.asarray(drawn.convert("L"))
    assert 0.05 < np.mean(pixels != 255) < 0.9
    picture(0, 70, 50).save(tmp_path / "photo.png")
    draw_codec(load_codec(name), tmp_path / "other.png", image=tmp_path / "photo.png")
    assert (tmp_path / "other.png").read_bytes() != out.read_bytes()


def test_few_bits():
    assert basis_functions(WallocCodec2D(WallocConfig2D(channels=1, latent_channels=4, bits=2))).isfinite().all()


def test_unsupported_codecs_and_files_are_refused(tmp_path):
    with pytest.raises(CallError, match=r"codec.docx has no file extension of an image format; use one such as .png"):
        draw_codec(load_codec("gray-16x"), tmp_path / "codec.docx")
    (tmp_path / "photo.png").write_text("no photo")
    with pytest.raises(DamagedError, match="not an image"):
        draw_codec(load_codec("gray-16x"), tmp_path / "codec.png", image=tmp_path / "photo.png")
    many = ResizeCodec(ResizeConfig(channels=5, factor=2))
    with pytest.raises(CallError, match="takes 5 channels; only gray and RGB codecs can be drawn"):
        draw_codec(many, tmp_path / "codec.png")
