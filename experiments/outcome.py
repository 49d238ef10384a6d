"""The result of a comparison: all runs, a summary of each condition, the differences, and a sentence."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from experiments.conditions import ConditionKind, find_kind
from experiments.differences import Difference, signed
from walloc_cdl.errors import CallError
from walloc_cdl.files import write_atomic

RESULTS_NAME = "results.json"


@dataclass(frozen=True)
class ConditionOutcome:
    """One condition over all seeds."""

    name: str
    codec: str
    stem: str
    grid: int
    values_per_sample: int
    bytes_per_sample: float
    """Bytes of the shards, including keys and labels, per sample."""
    num_parameters: int
    runs: list[dict[str, Any]]
    """The `RunRecord` of each seed as JSON."""

    @property
    def kind(self) -> ConditionKind:
        """The kind of the condition."""
        return find_kind(self.name)

    def scores(self, metric: str) -> list[float]:
        """Returns the metric for each seed."""
        return [run["metrics"][metric] for run in self.runs]

    def images_per_s(self) -> float:
        """Returns the training rate, averaged over the seeds."""
        return mean(run["images_per_s"] for run in self.runs)


@dataclass(frozen=True)
class Outcome:
    """The result of a whole comparison."""

    source: str
    size: int
    model: str
    num_train: int
    num_test: int
    seeds: list[int]
    metric: str
    conditions: list[ConditionOutcome]
    differences: list[Difference]
    sentence: str
    environment: dict[str, Any]
    """Commit, versions and machine; a list of values where the runs differ."""

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for `results.json`."""
        return {"format": "walloc-cdl-comparison", "format_version": 1, **asdict(self)}


def summarize(scores: list[float]) -> tuple[float, float]:
    """Returns mean and standard deviation (with n - 1; 0 for a single score)."""
    return mean(scores), stdev(scores) if len(scores) > 1 else 0.0


def describe(
    source: str, model: str, metric: str, conditions: list[ConditionOutcome], differences: list[Difference]
) -> str:
    """Returns a sentence that describes the result."""
    names = {"auc": "AUC", "accuracy": "accuracy"}
    scores = {condition.name: summarize(condition.scores(metric))[0] for condition in conditions}
    num_seeds = len(conditions[0].runs)
    trials = f"{num_seeds} seeds" if num_seeds > 1 else "one seed"
    if not differences:
        parts = ", ".join(f"{score:.3f} on {name}" for name, score in scores.items())
        return f"On {source}, {model} reached an {names[metric]} of {parts} ({trials})."
    parts = []
    for difference in differences:
        parts.append(
            f"{difference.condition} ({scores[difference.condition]:.3f}) against {difference.baseline} "
            f"({scores[difference.baseline]:.3f}) is {_describe_difference(difference)}"
        )
    return f"On {source} with {model}, {names[metric]}, {trials}: " + "; ".join(parts) + "."


def _describe_difference(difference: Difference) -> str:
    if difference.low is None or difference.high is None:
        return (
            f"{difference.verdict}: {signed(difference.mean)}, and one seed says nothing of the spread; "
            "run at least two"
        )
    suffix = "" if difference.verdict == "not shown to differ" else " here"
    return (
        f"{difference.verdict}{suffix}: {signed(difference.mean)}, "
        f"95 % interval {signed(difference.low)} to {signed(difference.high)}"
    )


def merge_environments(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Merge commit and environment of all runs: a value that differs between runs becomes a list of its values.

    >>> merge_environments([{"commit": "a", "environment": {}}, {"commit": "b", "environment": {}}])
    {'commit': ['a', 'b']}
    """
    merged: dict[str, Any] = {}
    for record in records:
        for name, value in {**record["environment"], "commit": record["commit"]}.items():
            values = merged.setdefault(name, [])
            if value not in values:
                values.append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in merged.items()}


def save_outcome(outcome: Outcome, folder: Path) -> None:
    """Write `results.json` to `folder`."""
    write_atomic(folder / RESULTS_NAME, (json.dumps(outcome.to_json(), indent=1, allow_nan=False) + "\n").encode())


def load_outcome(folder: Path) -> Outcome:
    """Read `results.json`; raises `CallError` for a folder without one, or for a file that is not a comparison's."""
    path = folder / RESULTS_NAME
    if not path.is_file():
        raise CallError(f"{folder} has no {RESULTS_NAME}; name the --out folder of a finished `cdl compare`")
    try:
        fields = json.loads(path.read_text())
        if fields.pop("format") != "walloc-cdl-comparison" or fields.pop("format_version") != 1:
            raise ValueError("another format")
        fields["conditions"] = [ConditionOutcome(**condition) for condition in fields["conditions"]]
        fields["differences"] = [Difference(**difference) for difference in fields["differences"]]
        outcome = Outcome(**fields)
        for condition in outcome.conditions:  # check the fields that a table needs
            summarize(condition.scores(outcome.metric))
            condition.images_per_s()
            find_kind(condition.name)
        return outcome
    except (CallError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CallError(f"{path} is not the result of a comparison ({error}); run `cdl compare` again") from error
