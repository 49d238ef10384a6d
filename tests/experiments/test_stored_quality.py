"""What raw rows keep of signals, for prefixes of the planes."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.stored_quality import at_rates, measure_stored
from tests.support.planes import plane_codec, smooth_images
from walloc_cdl.cli.app import run
from walloc_cdl.codec import load_codec
from walloc_cdl.errors import CallError, JobError


def test_rates_are_whole_planes_and_more_is_better():
    codec, images = plane_codec(), smooth_images(count=3, seed=5)
    points = measure_stored(at_rates(codec, [0.5, 1.05, 3]), images)
    assert [point.num_planes for point in points] == [8, 16, 48]
    assert [point.bits for point in points] == [0.5, 1.0, 3.0]
    assert points[0].psnr_db < points[1].psnr_db < points[2].psnr_db
    decoded = codec.decode(codec.encode(torch.stack(images)))
    pixels = ((decoded + 0.5) * 255).round().clamp(0, 255).numpy()
    errors = ((pixels - torch.stack(images).numpy()) ** 2).mean((1, 2, 3))
    assert points[2].psnr_db == pytest.approx(np.mean(10 * np.log10(255**2 / errors)), abs=1e-4)


def test_byte_codes_have_one_rate():
    codec = load_codec("rgb-16x")
    assert measure_stored(at_rates(codec, []), smooth_images(count=1))[0].bits == 1.5
    with pytest.raises(CallError, match="--bpp with codec rgb-16x, whose codes are stored as bytes at one rate"):
        at_rates(codec, [1.5])
    with pytest.raises(JobError, match="no sample to measure on"):
        measure_stored([codec], [])


def test_long_clips_in_pieces_have_the_error_of_the_whole(monkeypatch):
    codec = plane_codec(1, kind="audio", levels=4, max_rate=2.0, sample_rate=8000)
    clip = torch.sin(torch.arange(4096) / 50)[None] / 4
    whole = measure_stored([codec], [clip])[0].psnr_db
    monkeypatch.setattr("experiments.stored_quality.PIECE_SAMPLES", 1024)
    assert measure_stored([codec], [clip])[0].psnr_db == pytest.approx(whole, abs=1.0)


def test_the_command(tmp_path, capsys):
    for number, image in enumerate(smooth_images(count=2)):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{number}.png")
    arguments = ["codec", "eval", "--codec", "rgb", "--images", str(tmp_path)]
    assert run([*arguments, "--bpp", "0.75,1.5", "--json", str(tmp_path / "out.json")]) == 0
    shown = capsys.readouterr().out
    assert "1.5 bits a pixel" in shown
    assert "96 planes, " in shown
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["num_samples"] == 2
    assert [point["num_planes"] for point in written["points"]] == [48, 96]
    assert run([*arguments, "--bpp", "a lot"]) == 2
    assert "--bpp 'a lot'; expected numbers such as 0.75,1.5,3" in capsys.readouterr().err
    assert run([*arguments, "--bpp", "1", "--container", "png"]) == 2
    assert "--container png with --bpp" in capsys.readouterr().err
