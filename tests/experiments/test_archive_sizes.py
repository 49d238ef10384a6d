import numpy as np
import pytest
import torch

from experiments.archive_sizes import AUDIO_SPEC, audio_like_codes, image_codes, measure_containers
from tests.support.pictures import picture
from walloc_cdl.codec import load_codec
from walloc_cdl.errors import JobError
from walloc_cdl.latents.archive import CONTAINERS, picture_to_bytes


def test_ratio_and_bits_follow_from_the_pictures():
    codec = load_codec("rgb-16x")
    images = [torch.from_numpy(np.asarray(picture(seed, 64, 48)).transpose(2, 0, 1).copy()) for seed in range(2)]
    codes = image_codes(codec, images)
    results = measure_containers("rgb-16x", codes, codec.spec)
    assert [row.container for row in results] == [*CONTAINERS, "jpeg-ls"]
    for row in results[:-1]:
        num_bytes = sum(len(picture_to_bytes(item, bits=8, container=row.container)) for item in codes)
        assert row.ratio == pytest.approx(sum(item.size for item in codes) / num_bytes)
        assert row.bits_per_code == pytest.approx(8 / row.ratio)
        assert row.encode_mb_per_s > 0
        assert row.decode_mb_per_s > 0


def test_audio_like_codes():
    codes = audio_like_codes(1)[0][:, :256]
    assert (codes == audio_like_codes(1)[0][:, :256]).all()
    spread = codes.astype(float).std(1)
    assert spread[0] > 4 * spread[-1] > 0
    assert {row.container for row in measure_containers("sound", [codes], AUDIO_SPEC)} > {"webp", "png"}


def test_no_images():
    with pytest.raises(JobError, match="no image to measure on"):
        image_codes(load_codec("rgb-16x"), [])
