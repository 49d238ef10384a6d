"""`cdl codec import`: converts a published checkpoint to a folder that every other command accepts."""

import json

import pytest
import torch

from walloc_cdl.codec import ResidualCodec2D, ResidualConfig2D, load_codec


@pytest.fixture
def pair(tmp_path):
    """A checkpoint in the published layout, written without the package."""
    torch.manual_seed(0)
    codec = ResidualCodec2D(ResidualConfig2D(channels=1, levels=2, latent_channels=2, stages=2))
    path = tmp_path / "staged.pth"
    torch.save({"model_state_dict": codec.state_dict()}, path)
    fields = {"channels": 1, "J": 2, "latent_dim": 2, "latent_bits": 8, "num_stages": 2}
    path.with_suffix(".json").write_text(json.dumps(fields))
    return path, codec


def test_import_writes_and_describes_a_codec(cdl, pair, tmp_path):
    path, codec = pair
    out, report = tmp_path / "codec", tmp_path / "report.json"
    answer = cdl("codec", "import", path, "--out", out, "--json", report)
    assert answer.code == 0
    assert "staged" in answer.out
    assert load_codec(out).spec == codec.spec
    assert json.loads(report.read_text())["codec_id"] == codec.spec.codec_id
    assert sorted(each.name for each in out.iterdir()) == ["config.json", "model.safetensors"]


def test_invalid_imports_are_refused_in_one_line(refused, pair, tmp_path):
    path, _ = pair
    path.write_text("no checkpoint")
    assert "not a checkpoint of torch" in refused("codec", "import", path, "--out", tmp_path / "codec", code=1)
    assert "no such checkpoint" in refused("codec", "import", tmp_path / "none.pth", "--out", tmp_path / "codec")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    assert "holds other files" in refused("codec", "import", path, "--out", tmp_path / "full")
