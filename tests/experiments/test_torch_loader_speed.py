"""What the measurement of torch's loaders does and reports; no test asserts a time."""

import json

from experiments import torch_loader_speed
from tests.support.small_sets import write_small_set
from walloc_cdl.data import open_latents


def test_every_loader_yields_the_same_samples(tmp_path):
    content = write_small_set(tmp_path, {"train": [5, 0, 6]})["train"]
    loaders = torch_loader_speed.make_loaders(open_latents(tmp_path), 4, 0)
    for loader in loaders.values():
        batches = list(loader)
        assert [len(codes) for codes, _ in batches] == [4, 4, 3]
        read = {codes.numpy().tobytes() for batch in batches for codes in batch.codes}
        assert read == {codes.tobytes() for codes in content.codes}


def test_the_report(tmp_path, capsys):
    report = tmp_path / "loaders.json"
    call = ["--megabytes", "2", "--repeats", "1", "--seconds", "0.01", "--json", str(report)]
    assert torch_loader_speed.main(call) == 0
    loaders = json.loads(report.read_text())["loaders"]
    assert {"gather, not collated", "LatentDataset", "Subset", "random_split", "slice", "BatchSampler"} < loaders.keys()
    assert loaders["gather, not collated"]["share"]["median"] == 1
    table = capsys.readouterr().out
    assert all(name in table for name in loaders)
