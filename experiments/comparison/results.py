"""`Results`: all that a comparison found, in one JSON file from which every table, plot and page is made.

A comparison measures the same samples in several conditions. A run is one fitted model of one condition: a seed, a
fold, or both. Runs of different conditions with the same name have the same seed and the same tested samples, so they
are paired.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from experiments.comparison.conditions import KINDS
from experiments.comparison.differences import Difference
from experiments.comparison.names import METRIC_NAMES
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.fields import damaged
from walloc_cdl.files import write_atomic
from walloc_cdl.json_files import read_json
from walloc_cdl.schema import Check, Count, from_json

RESULTS_NAME = "results.json"
FORMAT, FORMAT_VERSION = "walloc-cdl-comparison", 3
METHODS = ("train", "probe")
MATCHINGS = ("bytes", "values", "flops", "time")
MAX_RESULTS_BYTES = 1 << 28
REMEDY = "run `cdl compare` again"
DATA_URI = re.compile(r"data:image/(?:webp|png);base64,[A-Za-z0-9+/]+={0,2}")

Positive = Annotated[int, Check("an integer of at least 1", lambda value: value >= 1)]
Share = Annotated[float, Check("a number from 0 to 1", lambda value: 0 <= value <= 1)]
Method = Annotated[str, Check("train or probe", lambda value: value in METHODS)]
Metric = Annotated[str, Check("accuracy or auc", lambda value: value in METRIC_NAMES)]
Matching = Annotated[str, Check("bytes, values, flops or time", lambda value: value in MATCHINGS)]
Amount = Annotated[float, Check("a number of at least 0", lambda value: value >= 0)]


@dataclass(frozen=True)
class SourceFacts:
    """The samples that were compared."""

    name: str
    size: Positive
    """Side in pixels of the full images, which is the crop that `cdl prepare` makes."""
    channels: Positive
    class_names: list[str]
    num_train: Count
    num_test: Count
    test: str
    """What was tested: `split test`, or `5 folds`."""
    file_bytes: Amount | None
    """Mean size of the source's own files; None where samples are no files."""
    keys: list[str]
    """Key of each tested sample."""
    labels: list[int]
    """Class of each tested sample."""

    @property
    def full_bytes(self) -> int:
        """Bytes of a full image as pixels."""
        return self.size**2 * self.channels


@dataclass(frozen=True)
class EpochPoint:
    """One epoch of a run."""

    epoch: Positive
    loss: float | None
    score: float | None
    """The metric on the evaluated split, where it was computed."""


@dataclass(frozen=True)
class RunResult:
    """One fitted model of one condition."""

    name: str
    """`seed 0`, `fold 2` or `seed 0, fold 2`."""
    score: Share
    predicted: list[int]
    """Predicted class of each tested sample of the source; -1 for one that this run did not test."""
    probabilities: list[float] | None
    """Probability of class 1 of each tested sample, if there are two classes and the metric is the AUC."""
    history: list[EpochPoint]
    elapsed_s: Amount
    record: dict[str, Any]
    """Provenance of the run: configuration, seed, commit, environment."""


@dataclass(frozen=True)
class Trial:
    """One run of the search for a setting, judged on a part of the training samples."""

    setting: dict[str, float]
    score: Share


@dataclass(frozen=True)
class Costs:
    """What a condition costs; None where it was not measured."""

    prepare_images_per_s: Amount | None = None
    total_bytes: Count | None = None
    """Of the stored training and test samples."""
    load_images_per_s: Amount | None = None
    train_images_per_s: Amount | None = None
    predict_images_per_s: Amount | None = None
    step_shares: dict[str, Share] = field(default_factory=dict)
    """Share of each part of a training step, such as loading, unpacking, synthesis, augmentation and model."""
    peak_memory_bytes: Count | None = None
    flops: Count | None = None
    """Floating-point operations of one forward pass for one sample; a multiplication and an addition are two."""
    num_tokens: Count | None = None
    """Positions of the grid on which the model begins."""


@dataclass(frozen=True)
class ConditionResult:
    """One condition over all runs."""

    name: str
    """The text of the condition, such as `latents-3072@128`."""
    kind: str
    """Its row in the table of kinds: `full`, `pixels`, `latents`, `jpeg`, …"""
    codec: str | None
    stored: str
    """How a sample is stored, for people: `64 × 64 pixels`, `24 bit planes of 32 × 32`."""
    seen: str
    """What the model sees, for people: `128 × 128 pixels`."""
    stem: str | None
    grid: Positive | None
    values_per_sample: Positive
    bytes_per_sample: Amount
    """Mean bytes of the codes of a sample, or of its file; keys and labels come on top."""
    psnr_db: float | None
    """Mean PSNR of what is restored, against the full images of the test samples; None for the full images."""
    num_parameters: Count
    setting: dict[str, float]
    """What was chosen for this condition: the learning rate, or the penalty of a linear classifier."""
    trials: list[Trial]
    runs: list[RunResult]
    costs: Costs

    @property
    def scores(self) -> list[float]:
        """The metric of each run."""
        return [run.score for run in self.runs]


@dataclass(frozen=True)
class SufficientBytes:
    """The smallest measured bytes of a kind from which on the metric is within the margin of that of full images."""

    kind: str
    bytes: Amount | None
    """None if the largest measured budget is not enough."""
    low: Amount | None
    high: Amount | None
    """Bounds of the 95 % interval, by bootstrap over runs and tested samples; `high` is None if beyond all budgets."""
    condition: str | None
    """Name of the condition with these bytes."""


@dataclass(frozen=True)
class Answer:
    """The answer to the question how many bytes these data need."""

    sentence: str
    """The answer in one sentence."""
    notes: list[str]
    """Caveats and further findings, a sentence each: what is equal and what is not, too few runs, no effect."""
    margin: Amount
    reference: str | None
    """Name of the condition that stands for the full images; None without one."""
    sufficient: list[SufficientBytes]
    ratio: Amount | None
    """Bytes that pixels need over bytes that latents need; None if one of them is not known."""
    ratio_low: Amount | None
    ratio_high: Amount | None


@dataclass(frozen=True)
class BreakEven:
    """After how many epochs encoding once has paid for itself against decoding the source's files in every step."""

    condition: str
    prepare_s: Amount
    """Encoding the training samples once."""
    source_epoch_s: Amount
    """One epoch that decodes and resizes the source's files."""
    stored_epoch_s: Amount
    """One epoch that reads what is stored."""
    predicted_epochs: Amount | None
    """`prepare_s / (source_epoch_s − stored_epoch_s)` from rates of the parts; None if stored epochs are no faster."""
    measured_epochs: Amount | None
    """From whole epochs that were timed, interpolated between two of them."""


@dataclass(frozen=True)
class SeenSample:
    """A tested sample as the model saw it in each condition."""

    index: Count
    """Place among the tested samples."""
    reason: str
    """Why it is shown: `chosen at random`, `conditions disagree`."""
    original: str
    """The full image as a data URI of WebP or PNG."""
    seen: dict[str, str]
    """For each condition, by name, what the model saw as a data URI, at the size of the original."""


@dataclass(frozen=True)
class PrefixQuality:
    """The first bytes of each row."""

    bytes: Count
    psnr_db: float


@dataclass(frozen=True)
class LatentStatistics:
    """Statistics of the codes of one codec on the training samples, by channel in the codec's order."""

    codec: str
    means: list[float]
    deviations: list[float]
    bits: list[int]
    """Stored bits of each channel at the largest budget."""
    prefixes: list[PrefixQuality]
    """In ascending order of their bytes."""


@dataclass(frozen=True)
class Results:
    """All that a comparison found."""

    method: Method
    source: SourceFacts
    model: str
    """The trained model, or the features that a linear classifier sees."""
    weights: str | None
    """Name of the pretrained weights."""
    metric: Metric
    matched_by: Matching
    """What is equal in the compared pairs: `bytes`, `values`, `flops` or `time`."""
    settings: dict[str, Any]
    """The settings of the comparison, with which the same call can be made again."""
    command: str
    conditions: list[ConditionResult]
    differences: list[Difference]
    answer: Answer
    break_even: list[BreakEven]
    samples: list[SeenSample]
    statistics: list[LatentStatistics]
    environment: dict[str, Any]
    """Commit, versions and machine; a list of values where the runs differ."""

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for `results.json`."""
        return {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}


def save_results(results: Results, folder: Path) -> None:
    """Write `results.json` to `folder`."""
    write_atomic(folder / RESULTS_NAME, (json.dumps(results.to_json(), indent=1, allow_nan=False) + "\n").encode())


def load_results(folder: Path) -> Results:
    """Read `results.json`, whose author is not trusted.

    Raises `CallError` for a folder without one, or for a file that is not a comparison's.
    """
    path = folder / RESULTS_NAME
    if not path.is_file():
        raise CallError(f"{folder} has no {RESULTS_NAME}; name the --out folder of a finished `cdl compare`")
    try:
        fields = read_json(path, max_bytes=MAX_RESULTS_BYTES, remedy=REMEDY)
        header = (fields.pop("format", None), fields.pop("format_version", None)) if isinstance(fields, dict) else ()
        if header != (FORMAT, FORMAT_VERSION):
            raise CallError(f"its format is not version {FORMAT_VERSION} of {FORMAT!r}")
        results = from_json(Results, fields, RESULTS_NAME, remedy=REMEDY)
        _require_consistent(results)
        return results
    except (CallError, DamagedError) as error:
        reason = str(error).removesuffix(f"; {REMEDY}").removeprefix(f"{path}: ")
        raise CallError(f"{path} is not the result of a comparison ({reason}); {REMEDY}") from error


def _require_consistent(results: Results) -> None:
    """Raise `DamagedError` unless lists have the lengths, and names the meanings, that tables and pages rely on."""
    source, num_classes = results.source, len(results.source.class_names)

    def require(holds: bool, where: str, value: Any, expected: str) -> None:
        if not holds:
            raise damaged(f"{RESULTS_NAME}, {where[:80]}", value, expected, REMEDY)

    num_tested = len(source.labels)
    require(bool(results.conditions), "conditions", results.conditions, "one or more")
    require(len(source.keys) == num_tested == source.num_test, "source, keys", len(source.keys), f"{num_tested} keys")
    require(all(0 <= label < num_classes for label in source.labels), "source, labels", "others", "class numbers")
    names = [each.name for each in results.conditions]
    require(len(set(names)) == len(names), "conditions", names, "names that differ")
    for each in results.conditions:
        require(each.kind in KINDS, f"{each.name}, kind", each.kind, f"one of {', '.join(KINDS)}")
        require(bool(each.runs), f"{each.name}, runs", each.runs, "one or more")
        for run in each.runs:
            where = f"{each.name}, {run.name}"
            require(
                len(run.predicted) == num_tested, f"{where}, predicted", len(run.predicted), f"{num_tested} classes"
            )
            require(
                all(-1 <= one < num_classes for one in run.predicted), f"{where}, predicted", "others", "class numbers"
            )
            values = run.probabilities
            fits = values is None or (len(values) == num_tested and all(0 <= value <= 1 for value in values))
            require(fits, f"{where}, probabilities", "others", f"{num_tested} numbers from 0 to 1, or null")
    for difference in results.differences:
        where = f"difference of {difference.condition}"
        require({difference.condition, difference.baseline} <= set(names), where, difference.baseline, "two conditions")
        for low, high in (
            (difference.low, difference.high),
            (difference.simultaneous_low, difference.simultaneous_high),
        ):
            require((low is None) == (high is None), where, [low, high], "both bounds or none")
    for sample in results.samples:
        where = f"sample {sample.index}"
        require(sample.index < num_tested, where, sample.index, f"a place among {num_tested}")
        uris = [sample.original, *sample.seen.values()]
        require(set(sample.seen) <= set(names), where, list(sample.seen), "names of conditions")
        require(all(map(DATA_URI.fullmatch, uris)), where, "others", "data URIs of WebP or PNG")
    for one in results.statistics:
        fits = len(one.means) == len(one.deviations) == len(one.bits)
        require(fits, f"statistics of {one.codec}", len(one.means), "lists of one length")
