"""Only conditions that store as many bytes and show pixels of the same size are compared."""

import dataclasses

from experiments.training.summarize import matched_pairs
from tests.support.results import make_results

ONE = make_results(6, 1, {"pixels-16": 0.5}).conditions[0]


def condition(name, num_bytes, grid):
    stem, seen = "synthesis", f"{grid} × {grid} pixels"
    if name.endswith(":channels"):
        stem, seen = "channels", "latent channels"
    fields = {"name": name, "kind": name.partition("-")[0], "bytes_per_sample": num_bytes, "grid": grid}
    return dataclasses.replace(ONE, **fields, stem=stem, seen=seen)


def test_differences_are_computed_for_equal_bytes_and_sizes_only():
    conditions = [
        condition("full", 12_288, 64),
        condition("pixels-64", 12_288, 64),
        condition("pixels-64@128", 12_288, 128),
        condition("pixels-128", 49_152, 128),
        condition("latents-16x", 12_288, 64),
        condition("latents-16x:channels", 12_288, 64),
        condition("latents-16x@128", 12_288, 128),
        condition("latents-4x", 49_152, 128),
        condition("latents-4x@64", 49_152, 64),
    ]
    assert [(one.name, baseline.name) for one, baseline in matched_pairs(conditions)] == [
        ("latents-16x", "pixels-64"),
        ("latents-16x:channels", "pixels-64"),
        ("latents-16x@128", "pixels-64@128"),
        ("latents-4x", "pixels-128"),
    ]
