"""The result of a comparison of sound, its files, and its table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from experiments.comparison.differences import Difference, signed
from walloc_cdl.canonical import canonical_json
from walloc_cdl.errors import markdown_text
from walloc_cdl.files import write_atomic

RESULTS_NAME, TABLE_NAME = "results.json", "table.md"


@dataclass(frozen=True)
class FoldScore:
    """One trained model, evaluated on the fold that it was not trained on."""

    fold: str
    seed: int
    accuracy: float
    samples_per_s: float
    """Training rate."""
    commit: str | None


@dataclass(frozen=True)
class SoundResult:
    """One condition over all folds and seeds."""

    name: str
    codec: str
    bytes_per_segment: int
    is_baseline: bool
    per_seed: list[float]
    """Accuracy over all folds together, for each seed of which all folds are finished."""
    folds: list[FoldScore]


@dataclass(frozen=True)
class SoundOutcome:
    """The result of a whole comparison."""

    source: str
    model: str
    segment_s: float
    num_samples: int
    folds: list[str]
    training: dict[str, Any]
    results: list[SoundResult]
    differences: list[Difference]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """Return headings and rows of the table."""
        differences = {difference.condition: difference for difference in self.differences}
        rows = []
        for result in self.results:
            scores, found = result.per_seed, differences.get(result.name)
            difference = "–"
            if found is not None:
                interval = (
                    "" if found.low is None or found.high is None else f" [{signed(found.low)}, {signed(found.high)}]"
                )
                difference = f"{signed(found.mean)}{interval} to {found.baseline}"
            rows.append(
                [
                    result.name,
                    f"{result.bytes_per_segment:,}",
                    f"{mean(scores):.3f}" if scores else "–",
                    f"{stdev(scores):.3f}" if len(scores) > 1 else "–",
                    str(len(scores)),
                    difference,
                ]
            )
        return ["condition", "bytes", "accuracy", "± seeds", "seeds", "difference [95 %]"], rows

    def markdown(self) -> str:
        """Return the table and what it is based on."""
        headings, rows = self.rows()
        lines = [headings, ["---"] * len(headings), *([markdown_text(cell) for cell in row] for row in rows)]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        return (
            f"{table}\n\n{markdown_text(self.source)}, {self.num_samples:,} segments of {self.segment_s:g} s in "
            f"{len(self.folds)} folds, each tested by a {self.model} trained on the others.\n"
        )


def save_sound_outcome(outcome: SoundOutcome, folder: Path) -> None:
    """Write results and table to a folder."""
    write_atomic(folder / RESULTS_NAME, canonical_json(outcome.to_json()))
    write_atomic(folder / TABLE_NAME, outcome.markdown().encode("utf-8"))
