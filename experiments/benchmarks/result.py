"""The result of a benchmark as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from experiments.benchmarks.machine import machine_text
from experiments.benchmarks.timing import Spread, shares
from experiments.peers.peer import Absent

if TYPE_CHECKING:
    from experiments.benchmarks.step_parts import StepParts

ABOVE_LIMIT = (
    "shares above 100 %: a limit is measured too, on work that is simpler but not the same, so a way that does less of "
    "that work, or was disturbed less in its turns, may be faster"
)


@dataclass(frozen=True)
class Limit:
    """An upper bound of the rate, in the unit of the benchmark."""

    name: str
    text: str
    """How it was measured or computed."""
    rates: Sequence[float]
    """One rate for each repeat."""


@dataclass(frozen=True)
class Figure:
    """The speed of one candidate."""

    name: str
    """Name for `--against`, or `walloc-cdl …` for this package."""
    setting: str
    """The setting that was measured."""
    documented: str
    """Where the setting is documented."""
    rates: Sequence[float]
    """One rate for each repeat."""
    limits: Sequence[float]
    """The limit in each repeat."""
    tried: dict[str, float] = field(default_factory=dict)
    """Rates of all documented settings in the trial that chose the setting."""
    waiting: Sequence[float] | None = None
    """The fraction of its time that a consumer waited for batches, in each repeat."""
    waiting_setting: str = ""
    """The setting with the least waiting, which may differ from the fastest without a consumer."""

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return {
            "name": self.name,
            "setting": self.setting,
            "documented": self.documented,
            "tried": self.tried,
            "rate": asdict(Spread.of(self.rates)),
            "rates": list(self.rates),
            "limit": Spread.of(self.limits).median,
            "share_of_limit": asdict(shares(self.rates, self.limits)),
            **self._waiting_json(),
        }

    def _waiting_json(self) -> dict[str, Any]:
        if self.waiting is None:
            return {}
        return {"waiting_share": asdict(Spread.of(self.waiting)), "waiting_setting": self.waiting_setting}


@dataclass(frozen=True)
class Result:
    """The figures of a benchmark, and everything that is needed to interpret them."""

    benchmark: str
    unit: str
    work: dict[str, Any]
    """Description of the work in plain values."""
    machine: dict[str, Any]
    limits: Sequence[Limit]
    figures: Sequence[Figure]
    absent: Sequence[Absent] = ()
    parts: StepParts | None = None
    """The parts of a training step."""

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return {
            "benchmark": self.benchmark,
            "unit": self.unit,
            "work": self.work,
            "machine": self.machine,
            "limits": [
                {"name": limit.name, "text": limit.text, "rate": asdict(Spread.of(limit.rates))}
                for limit in self.limits
            ],
            "figures": [figure.to_json() for figure in self.figures],
            "absent": [asdict(absent) for absent in self.absent],
            **({} if self.parts is None else {"parts": self.parts.to_json()}),
        }

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Returns headings and rows, the fastest first, the limits last."""
        waits = any(figure.waiting is not None for figure in self.figures)
        headings = ["", self.unit, "lowest to highest", "limit", "share of it", *(["waiting"] if waits else [])]
        rows = []
        for figure in sorted(self.figures, key=lambda figure: -Spread.of(figure.rates).median):
            row = [figure.name, *_rate_cells(figure.rates), amount(Spread.of(figure.limits).median)]
            row.append(f"{shares(figure.rates, figure.limits).median:.1%}")
            if waits:
                row.append("" if figure.waiting is None else f"{Spread.of(figure.waiting).median:.1%}")
            rows.append(row)
        for limit in self.limits:
            rows.append([f"limit: {limit.name}", *_rate_cells(limit.rates), "", "", *([""] if waits else [])])
        return headings, rows

    def notes(self) -> list[str]:
        """Returns the lines below the table: the work, the setting of each candidate, absent peers and the machine."""
        work = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self.work.items())
        lines = [f"work: {work}"]
        lines += [f"limit {limit.name}: {limit.text}" for limit in self.limits]
        for figure in self.figures:
            # As fractions: rates of a short trial would seem to contradict those of the long runs beside them.
            fastest = max(figure.tried.values(), default=1.0)
            others = [f"{text}: {rate / fastest:.0%}" for text, rate in figure.tried.items() if text != figure.setting]
            slower = f"; other settings, of its rate in the same trial: {'; '.join(others)}" if others else ""
            waits = f"; waiting: with {figure.waiting_setting}" if figure.waiting_setting else ""
            lines.append(f"{figure.name}: {figure.setting} ({figure.documented}){waits}{slower}")
        lines += [f"{absent.name}: not measured, {absent.reason}" for absent in self.absent]
        if any(shares(figure.rates, figure.limits).median > 1 for figure in self.figures):
            lines.append(ABOVE_LIMIT)
        return [*lines, f"machine: {machine_text(self.machine)}"]


def amount(value: float) -> str:
    """Format a rate with three digits, or as an integer."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _rate_cells(rates: Sequence[float]) -> list[str]:
    spread = Spread.of(rates)
    return [amount(spread.median), f"{amount(spread.low)} to {amount(spread.high)}"]
