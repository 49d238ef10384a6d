"""The result of a comparison: all runs, a summary of each condition, the differences, and a sentence."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

from experiments.comparison.conditions import ConditionKind, find_kind
from experiments.comparison.differences import Difference, signed
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.fields import damaged
from walloc_cdl.files import write_atomic
from walloc_cdl.json_files import read_json
from walloc_cdl.schema import Check, Count, from_json, require_type

RESULTS_NAME = "results.json"
FORMAT, FORMAT_VERSION = "walloc-cdl-comparison", 2
MAX_RESULTS_BYTES = 1 << 28
"""Larger results are refused; most of them are the runs' confusion matrices."""
REMEDY = "run `cdl compare` again"
METRIC_NAMES = {"auc": "AUC", "accuracy": "accuracy"}
"""Names of the metrics in a sentence or table."""

Size = Annotated[int, Check("an integer of at least 1", lambda value: value >= 1)]
Share = Annotated[float, Check("a number from 0 to 1", lambda value: 0 <= value <= 1)]
Rate = Annotated[float, Check("a number of at least 0", lambda value: value >= 0)]


@dataclass(frozen=True)
class ConditionOutcome:
    """One condition over all seeds."""

    name: str
    codec: str
    stem: str
    grid: Size
    values_per_sample: Size
    bytes_per_sample: Size
    """Bytes that are read of the codes of a sample; keys and labels come on top."""
    num_parameters: Count
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
    size: Size
    model: str
    num_train: Count
    num_test: Count
    seeds: list[int]
    metric: str
    conditions: list[ConditionOutcome]
    differences: list[Difference]
    sentence: str
    environment: dict[str, Any]
    """Commit, versions and machine; a list of values where the runs differ."""

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for `results.json`."""
        return {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}


def summarize(scores: list[float]) -> tuple[float, float]:
    """Returns mean and standard deviation (with n - 1; 0 for a single score)."""
    return mean(scores), stdev(scores) if len(scores) > 1 else 0.0


def describe(
    source: str, model: str, metric: str, conditions: list[ConditionOutcome], differences: list[Difference]
) -> str:
    """Returns a sentence that describes the result."""
    scores = {condition.name: summarize(condition.scores(metric))[0] for condition in conditions}
    num_seeds = len(conditions[0].runs)
    trials = f"{num_seeds} seeds" if num_seeds > 1 else "one seed"
    if not differences:
        parts = ", ".join(f"{score:.3f} on {name}" for name, score in scores.items())
        return f"On {source}, {model} reached an {METRIC_NAMES[metric]} of {parts} ({trials})."
    parts = []
    for difference in differences:
        parts.append(
            f"{difference.condition} ({scores[difference.condition]:.3f}) against {difference.baseline} "
            f"({scores[difference.baseline]:.3f}) is {_describe_difference(difference)}"
        )
    return f"On {source} with {model}, {METRIC_NAMES[metric]}, {trials}: " + "; ".join(parts) + "."


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
        fields = read_json(path, max_bytes=MAX_RESULTS_BYTES, remedy=REMEDY)
        header = (fields.pop("format", None), fields.pop("format_version", None)) if isinstance(fields, dict) else ()
        if header != (FORMAT, FORMAT_VERSION):
            raise CallError(f"its format is not version {FORMAT_VERSION} of {FORMAT!r}")
        outcome = from_json(Outcome, fields, RESULTS_NAME, remedy=REMEDY)
        _require_table_values(outcome)
        return outcome
    except (CallError, DamagedError) as error:
        reason = str(error).removesuffix(f"; {REMEDY}").removeprefix(f"{path}: ")
        raise CallError(f"{path} is not the result of a comparison ({reason}); {REMEDY}") from error


def _require_table_values(outcome: Outcome) -> None:
    """Raise `DamagedError` or `CallError` unless there is all that the table and the plot need."""
    if outcome.metric not in METRIC_NAMES:
        raise damaged(f"{RESULTS_NAME}, metric", outcome.metric, " or ".join(METRIC_NAMES), REMEDY)
    if not outcome.conditions:
        raise damaged(f"{RESULTS_NAME}, conditions", outcome.conditions, "one or more", REMEDY)
    for condition in outcome.conditions:
        where = f"{RESULTS_NAME}, {condition.name[:60]}"
        if condition.stem not in find_kind(condition.name).stems:
            raise damaged(f"{where}, stem", condition.stem, " or ".join(condition.kind.stems), REMEDY)
        if not condition.runs:
            raise damaged(f"{where}, runs", condition.runs, "one or more", REMEDY)
        for run in condition.runs:
            metrics = require_type(dict[str, Any], run.get("metrics"), f"{where}, metrics", remedy=REMEDY)
            require_type(Share, metrics.get(outcome.metric), f"{where}, {outcome.metric}", remedy=REMEDY)
            require_type(Rate, run.get("images_per_s"), f"{where}, images_per_s", remedy=REMEDY)
    for difference in outcome.differences:
        if (difference.low is None) != (difference.high is None):
            bounds = [difference.low, difference.high]
            raise damaged(f"{RESULTS_NAME}, {difference.condition[:60]}, low and high", bounds, "both or none", REMEDY)
