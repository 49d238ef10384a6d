"""The measurement of rows and prefixes."""

import json

from experiments.prefix_loader_speed import BYTE_CODES, main, write_random_rows
from walloc_cdl.data import open_latents
from walloc_cdl.latents import verify


def test_every_loader_is_measured(tmp_path, capsys):
    out = tmp_path / "out.json"
    assert main(["--megabytes", "7", "--repeats", "2", "--seconds", "0.05", "--json", str(out)]) == 0
    assert "rows, 3,072 bytes read" in capsys.readouterr().out
    loaders = json.loads(out.read_text())["loaders"]
    assert next(iter(loaders)) == BYTE_CODES
    assert len(loaders) == 4
    assert all(figures["samples_per_s"] > 0 for figures in loaders.values())


def test_the_rows_are_a_data_set(tmp_path):
    write_random_rows(tmp_path / "rows", 200_000)
    assert verify(tmp_path / "rows", full=True).problems == []
    assert open_latents(tmp_path / "rows", bytes=3072).latent_shape[0] < 33
