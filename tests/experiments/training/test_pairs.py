"""Only conditions that store as many bytes and have the same grid are compared."""

from experiments.comparison.outcome import ConditionOutcome
from experiments.training.compare import matched_pairs


def outcome(name, num_bytes, grid):
    return ConditionOutcome(name, "codec", "synthesis", grid, 33 * 32 * 32, num_bytes, 1, [])


def test_differences_are_computed_for_equal_bytes_and_equal_grids_only():
    outcomes = [
        outcome("pixels-64", 12_288, 64),
        outcome("pixels-64@128", 12_288, 128),
        outcome("pixels-128", 49_152, 128),
        outcome("latents-16x", 12_288, 64),
        outcome("latents-16x@128", 12_288, 128),
        outcome("latents-4x", 49_152, 128),
        outcome("latents-4x@64", 49_152, 64),
    ]
    assert [(condition.name, baseline.name) for condition, baseline in matched_pairs(outcomes)] == [
        ("latents-16x", "pixels-64"),
        ("latents-16x@128", "pixels-64@128"),
        ("latents-4x", "pixels-128"),
    ]
