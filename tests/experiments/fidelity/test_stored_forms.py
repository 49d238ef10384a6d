"""What each form stores within a number of bytes, and what it restores."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.fidelity.stored_forms import CodecForm, choose_budgets, parse_forms
from tests.support.planes import smooth_images
from walloc_cdl.codec import load_codec, to_bytes
from walloc_cdl.errors import CallError

IMAGES = torch.stack(smooth_images(count=3))


def test_a_codec_stores_the_longest_prefix_that_fits(codec):
    restored, sizes = CodecForm(codec).restore(IMAGES, 330)  # a plane of a 16 × 16 grid has 32 bytes
    assert sizes == [320] * 3
    prefix = codec.with_planes(10)
    assert torch.equal(restored, to_bytes(prefix.decode(prefix.encode(IMAGES))))


def test_a_codec_without_bit_planes_has_one_size():
    codec = load_codec("rgb-16x")
    restored, sizes = CodecForm(codec).restore(IMAGES, 768)
    assert sizes == [12 * 8 * 8] * 3
    assert torch.equal(restored, to_bytes(codec.decode(codec.encode(IMAGES))))


def test_pixels_are_the_largest_square_that_fits():
    (form,) = parse_forms("pixels")
    restored, sizes = form.restore(IMAGES, 800)
    assert sizes == [3 * 16 * 16] * 3  # 3 · 17² = 867
    assert restored.shape == IMAGES.shape
    flat = torch.full((1, 3, 64, 64), 77, dtype=torch.uint8)
    assert torch.equal(form.restore(flat, 3)[0], flat)
    whole, sizes = form.restore(IMAGES, 10**6)
    assert torch.equal(whole, IMAGES)
    assert sizes == [3 * 64 * 64] * 3
    with pytest.raises(CallError, match="2 bytes an image are less than one pixel; give at least 3"):
        form.restore(IMAGES, 2)


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_files_have_the_highest_quality_that_fits(name, channels):
    (form,) = parse_forms(name)
    images = IMAGES[:2, :channels]
    errors = []
    for budget in (700, 1500, 10**6):
        restored, sizes = form.restore(images, budget)
        assert restored.shape == images.shape
        assert restored.dtype == torch.uint8
        assert all(size <= budget for size in sizes)
        errors.append(float((restored.float() - images.float()).square().mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > errors[2]


def test_a_jpeg_file_is_pillows():
    (form,) = parse_forms("jpeg")
    restored, sizes = form.restore(IMAGES[:1], 10**6)
    buffer = io.BytesIO()
    Image.fromarray(IMAGES[0].permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=95, optimize=True)
    assert sizes == [len(buffer.getvalue())]
    assert np.array_equal(restored[0].permute(1, 2, 0).numpy(), np.asarray(Image.open(buffer)))


def test_a_file_that_fits_at_no_quality_has_the_lowest():
    (form,) = parse_forms("jpeg")
    _, sizes = form.restore(IMAGES[:1], 100)
    assert 100 < sizes[0] < 1500


def test_forms_are_named():
    assert [form.name for form in parse_forms("pixels, jpeg,pixels,")] == ["pixels", "jpeg"]
    assert parse_forms("") == []
    with pytest.raises(CallError, match="unknown form to compare with 'jpg'; nearest: jpeg; there are pixels, jpeg, "):
        parse_forms("jpg")


def test_the_default_budgets_are_halves_of_all_planes(codec):
    assert codec.spec.num_planes == 48
    assert choose_budgets(codec, (3, 64, 64), None) == [48, 96, 192, 384, 768, 1536]
    assert choose_budgets(codec, (3, 8, 8), None) == [1, 3, 6, 12, 24, 48]
    assert choose_budgets(load_codec("rgb-16x"), (3, 64, 64), None) == [768]
    assert choose_budgets(load_codec("rgb-16x"), (3, 64, 64), [768]) == [768]


def test_budgets_that_the_codec_does_not_have_are_refused(codec):
    with pytest.raises(CallError, match="2,000 bytes a sample; these latents take 32 to 1,536, 32 a plane"):
        choose_budgets(codec, (3, 64, 64), [320, 2000])
    with pytest.raises(CallError, match="100 bytes a sample of codes that are stored as bytes"):
        choose_budgets(load_codec("rgb-16x"), (3, 64, 64), [100])
    with pytest.raises(CallError, match="no number of bytes"):
        choose_budgets(codec, (3, 64, 64), [])
