"""What the measurement of opening does and reports; no test asserts a time."""

import json

import pytest

from experiments import opening_speed


@pytest.mark.slow
def test_steps_of_a_small_set(tmp_path, capsys):
    report = tmp_path / "opening.json"
    call = ["--samples", "3000", "--shards", "3", "--processes", "2", "--json", str(report)]
    assert opening_speed.main(call) == 0
    result = json.loads(report.read_text())
    names = [step["name"] for step in result["steps"]]
    assert names == [
        "open_latents",
        "dataset[i]",
        "dataset.gather of 256",
        "first shuffled batch, epoch 0",
        "first shuffled batch, epoch 1",
    ]
    assert all(step["seconds"] > 0 and step["kept_bytes"] >= 0 for step in result["steps"])
    table = capsys.readouterr().out
    assert "3,000 samples in 3 shards; medians of 2 processes" in table
    assert all(name in table for name in names)
