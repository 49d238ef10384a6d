"""docs/walloc.md cannot rot: its blocks run, one after the other, on checkpoints of the published layout."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from tests.support.paths import ROOT
from walloc_cdl.compat.walloc import Codec1D, Codec2D

DOCUMENT = ROOT / "docs/walloc.md"

IMAGE = {"channels": 3, "J": 3, "Ne": 32, "Nd": 32, "latent_dim": 12, "latent_bits": 8, "lightweight_encode": True}
SOUND = {
    "channels": 2,
    "J": 5,
    "Ne": 27,
    "Nd": 27,
    "latent_dim": 27,
    "latent_bits": 8,
    "lightweight_encode": True,
    "post_filter": True,
}


def save_checkpoint(path: Path, codec: torch.nn.Module, config: dict) -> None:
    torch.save({"model_state_dict": codec.state_dict(), "epoch": 3}, path)
    path.with_suffix(".json").write_text(json.dumps(config))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What the page's blocks read, and nothing else."""
    from skimage.data import astronaut

    torch.manual_seed(0)
    save_checkpoint(tmp_path / "RGB_16x.pth", Codec2D(**IMAGE), IMAGE)
    save_checkpoint(tmp_path / "stereo_5x.pth", Codec1D(**SOUND), SOUND)
    Image.fromarray(astronaut()[:128, 64:256]).save(tmp_path / "kodim05.png")
    time = np.arange(5000) / 8000
    waves = np.stack([np.sin(900 * time), np.sin(1300 * time + 1)], 1) * np.exp(-3 * time)[:, None]
    soundfile.write(tmp_path / "clip.wav", waves, 8000, subtype="PCM_16")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_block_runs_and_says_what_is_so(folder, capsys):
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(blocks) > 10
    names: dict = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{DOCUMENT.name}, block {number}", "exec"), names)
    printed = capsys.readouterr().out
    assert "16.0 times fewer values" in printed
    assert "dimensionality reduction: 16 times" in printed
    torch.testing.assert_close(names["same_z"], names["z"], rtol=0, atol=1e-3)
    assert (names["x_hat"] - names["decoded"]).abs().mean() < 1e-3
    torch.testing.assert_close(names["rebuilt"].clamp(-0.5, 0.5), names["x_hat"], rtol=0, atol=1e-4)
    torch.testing.assert_close(names["package_x_hat"], names["x_hat"], rtol=0, atol=1e-5)
    assert names["z_audio"].shape == (1, 27, 156 + 2)
    assert names["restored_pixels"].shape == names["pixels"].shape[1:]
    assert torch.equal(names["tiled"], names["light"].encode(names["pixels"])[0])
    assert sorted(path.suffix for path in folder.glob("latent.*")) == [".png", ".tiff", ".webp"]


def test_the_one_import_that_changes_is_named():
    assert "from walloc_cdl.compat import walloc" in DOCUMENT.read_text()
