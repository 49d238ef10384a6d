"""The answer of a comparison: how many bytes the data need in each kind of storage, and what that saves.

A number of bytes is sufficient if the metric there, and at every larger number that was measured, is at most a margin
below that of the full images. The smallest sufficient one is uncertain, since scores are: it is computed again for
draws of the test samples and of the noise of the seeds, as the intervals of differences are, and its interval has 95 %
of these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import norm, t

from experiments.comparison.conditions import KINDS
from experiments.comparison.differences import CHUNK_DRAWS, METRICS, NUM_DRAWS, shared_error
from experiments.comparison.names import METRIC_NAMES
from experiments.comparison.results import Answer, ConditionResult, RunResult, SufficientBytes

ANSWERED = ("pixels", "latents")
"""The kinds that an answer compares."""
DEFAULT_MARGIN = 0.01
NUM_CHANCE_DRAWS = 400


def find_answer(
    conditions: Sequence[ConditionResult],
    labels: Sequence[int],
    metric: str,
    *,
    source: str,
    model: str,
    margin: float = DEFAULT_MARGIN,
) -> Answer:
    """Returns the smallest sufficient bytes of pixels and latents, their ratio, and what they mean in words.

    `labels` are the classes of the tested samples, of which the conditions' runs have predictions. Full images count
    as the largest pixels. Without a condition `full` the answer only says which condition has the best score, and
    where full images are not above chance, that nothing can be said.
    """
    reference = next((each for each in conditions if each.kind == "full"), None)
    if reference is None:
        best = max(conditions, key=lambda each: float(np.mean(each.scores)))
        sentence = (
            f"On {source} with {model}, the best {METRIC_NAMES[metric]}, {np.mean(best.scores):.3f}, is that of "
            f"{best.name}; there is no condition `full` to say how many bytes are enough."
        )
        return Answer(sentence, _notes(conditions, None, []), margin, None, [], None, None, None)
    truth = np.asarray(labels)
    if not _is_above_chance(reference, truth, metric):
        sentence = (
            f"On {source}, {model} does not tell the classes apart even from the full images "
            f"({METRIC_NAMES[metric]} {np.mean(reference.scores):.3f}, by chance {_chance(truth, metric):.3f}), so "
            "nothing can be said of bytes: more images or another model are needed."
        )
        return Answer(sentence, _notes(conditions, reference, []), margin, reference.name, [], None, None, None)
    losses = _drawn_losses(conditions, reference, truth, metric)
    found: list[SufficientBytes] = []
    drawn: dict[str, np.ndarray] = {}
    for kind in ANSWERED:
        own = sorted(_comparable(conditions, reference, kind), key=lambda each: each.bytes_per_sample)
        if not own:
            continue
        if kind == "pixels":
            own.append(reference)
        sizes = np.array([each.bytes_per_sample for each in own])
        mean_loss = [float(np.mean(reference.scores) - np.mean(each.scores)) for each in own]
        smallest = float(smallest_sufficient(sizes, np.array([mean_loss]), margin)[0])
        drawn[kind] = smallest_sufficient(sizes, np.stack([losses[each.name] for each in own], 1), margin)
        low, high = np.quantile(drawn[kind], [0.025, 0.975], method="nearest")
        name = next((each.name for each in own if each.bytes_per_sample == smallest), None)
        found.append(SufficientBytes(kind, _finite(smallest), _finite(low), _finite(high), name))
    ratio, low, high = _ratio(found, drawn)
    sentence = _sentence(source, model, metric, margin, reference, found, ratio)
    return Answer(sentence, _notes(conditions, reference, found), margin, reference.name, found, ratio, low, high)


def _comparable(conditions: Sequence[ConditionResult], reference: ConditionResult, kind: str) -> list[ConditionResult]:
    """Returns the conditions of a kind that differ from the full images in their storage alone."""
    return [
        each for each in conditions if each.kind == kind and (each.stem, each.seen) == (reference.stem, reference.seen)
    ]


def smallest_sufficient(sizes: np.ndarray, losses: np.ndarray, margin: float) -> np.ndarray:
    """Returns, for each row of `losses` (D, B), the smallest of ascending `sizes` (B,) from which on none is above.

    Infinity where the largest is not enough.

    >>> smallest_sufficient(np.array([1, 2, 4]), np.array([[0.1, 0.0, 0.0], [0.0, 0.1, 0.0], [0.0, 0.0, 0.1]]), 0.01)
    array([ 2.,  4., inf])
    """
    within = losses <= margin + 1e-12
    from_here = np.flip(np.logical_and.accumulate(np.flip(within, 1), axis=1), 1)
    padded = np.append(sizes.astype(float), np.inf)
    first = np.where(from_here.any(1), from_here.argmax(1), len(sizes))
    return padded[first]


def replicates(runs: Sequence[RunResult], metric: str) -> list[np.ndarray]:
    """Returns what each seed answered to the test samples: classes (N,), or probabilities (N, 2) for the AUC.

    Folds of one seed test different samples and are joined.
    """
    joined: dict[str, np.ndarray] = {}
    for run in runs:
        seed = ", ".join(part for part in run.name.split(", ") if not part.startswith("fold")) or "folds"
        answers = np.asarray(run.predicted)
        if metric == "auc" and run.probabilities is not None:
            positive = np.asarray(run.probabilities, float)
            answers = np.stack([1 - positive, positive], 1)
        if seed not in joined:
            joined[seed] = answers.copy()
        else:
            tested = np.asarray(run.predicted) >= 0
            joined[seed][tested] = answers[tested]
    return list(joined.values())


def _chance(labels: np.ndarray, metric: str) -> float:
    """Returns the metric of a constant answer, which is always the most frequent class."""
    return 0.5 if metric == "auc" else float(np.bincount(labels).max() / len(labels))


def _is_above_chance(reference: ConditionResult, labels: np.ndarray, metric: str) -> bool:
    """Whether the metric is above that of a constant answer in 97.5 % of draws of the test samples."""
    score, generator = METRICS[metric], np.random.default_rng(0)
    answers = replicates(reference.runs, metric)
    rows = generator.integers(0, len(labels), (NUM_CHANCE_DRAWS, len(labels)))
    weights = np.stack([np.bincount(drawn, minlength=len(labels)) for drawn in rows])
    drawn = np.nan_to_num(np.mean([score(labels, each, weights) for each in answers], 0))
    if metric == "accuracy":  # the most frequent class of all is as right as it is frequent in each draw
        drawn = drawn - weights @ (labels == np.bincount(labels).argmax()) / len(labels)
        return bool(np.quantile(drawn, 0.025) > 0)
    return bool(np.quantile(drawn, 0.025) > _chance(labels, metric))


def _drawn_losses(
    conditions: Sequence[ConditionResult], reference: ConditionResult, labels: np.ndarray, metric: str
) -> dict[str, np.ndarray]:
    """Returns, for each condition, `NUM_DRAWS` draws of how far it is below the reference."""
    score, generator = METRICS[metric], np.random.default_rng(0)
    answers = {each.name: replicates(each.runs, metric) for each in conditions}
    sums: dict[str, list[np.ndarray]] = {name: [] for name in answers}
    for start in range(0, NUM_DRAWS, CHUNK_DRAWS):
        shape = (min(CHUNK_DRAWS, NUM_DRAWS - start), len(labels))
        rows = generator.integers(0, len(labels), shape)
        weights = np.stack([np.bincount(drawn, minlength=len(labels)) for drawn in rows])
        for name, own in answers.items():
            sums[name].append(np.mean([score(labels, each, weights) for each in own], 0))
    drawn = {name: np.nan_to_num(np.concatenate(parts)) for name, parts in sums.items()}
    ones = np.ones((1, len(labels)))
    by_seed = {name: np.array([float(score(labels, each, ones)[0]) for each in own]) for name, own in answers.items()}
    losses = {}
    for name, values in drawn.items():
        noise = np.zeros(NUM_DRAWS)
        pairs = list(zip(answers[reference.name], answers[name], strict=False))
        if name != reference.name and len(pairs) > 1:
            # Student's quantile over the normal one widens it as the interval of a difference.
            widening = t.ppf(0.975, len(pairs) - 1) / norm.ppf(0.975)
            error = (
                widening * np.std((by_seed[reference.name] - by_seed[name])[: len(pairs)], ddof=1) / len(pairs) ** 0.5
            )
            shared = shared_error(pairs, labels, metric)  # the draws of the samples have it already
            noise = generator.standard_normal(NUM_DRAWS) * math.sqrt(max(error**2 - shared**2, 0))
        losses[name] = drawn[reference.name] - values + noise
    return losses


def _ratio(
    found: Sequence[SufficientBytes], drawn: dict[str, np.ndarray]
) -> tuple[float | None, float | None, float | None]:
    """Returns bytes of pixels over bytes of latents, and its interval over the draws in which there are latents."""
    sizes = {each.kind: each.bytes for each in found}
    pixels, latents = (sizes.get(kind) for kind in ANSWERED)
    if pixels is None or latents is None:
        return None, None, None
    known = np.isfinite(drawn["pixels"]) & np.isfinite(drawn["latents"])
    if not known.any():
        return pixels / latents, None, None
    low, high = np.quantile(drawn["pixels"][known] / drawn["latents"][known], [0.025, 0.975], method="nearest")
    return pixels / latents, float(low), float(high)


def _sentence(
    source: str,
    model: str,
    metric: str,
    margin: float,
    reference: ConditionResult,
    found: Sequence[SufficientBytes],
    ratio: float | None,
) -> str:
    sizes = {each.kind: each for each in found}
    score = f"{METRIC_NAMES[metric]} {np.mean(reference.scores):.3f}"
    goal = f"within {_points(margin)} of the full images ({score} with {model})"
    texts = {kind: f"{each.bytes:,.0f} bytes an image" for kind, each in sizes.items() if each.bytes is not None}
    full = f"{reference.bytes_per_sample:,.0f}"
    if "latents" not in sizes or "pixels" not in sizes:
        only = next(iter(sizes.values()), None)
        if only is None or only.bytes is None:
            return f"On {source}, nothing that was measured is {goal}."
        return f"On {source}, {KINDS[only.kind].title} of {texts[only.kind]} are {goal}, which take {full}."
    pixels, latents = sizes["pixels"].bytes, sizes["latents"].bytes
    is_whole = pixels is not None and pixels >= reference.bytes_per_sample
    if latents is None:
        rest = "nor are smaller pixels" if is_whole else f"pixels are from {texts['pixels']} on"
        return f"On {source}, no latents that were measured are {goal}; {rest}."
    begin = f"On {source}, latents of {texts['latents']} are {goal}"
    if is_whole:
        return f"{begin}, which take {full}; no smaller pixels that were measured are."
    if ratio is not None and ratio > 1.0001:
        return f"{begin}; pixels need {pixels:,.0f}, {ratio:.3g} times as many."
    if ratio is not None and ratio < 0.9999:
        return f"{begin}, but pixels need only {pixels:,.0f}: here resolution reduction is the smaller form."
    return (
        f"{begin}, and so are pixels of as many bytes: here latents gain nothing over resolution reduction, and either "
        f"saves {1 - latents / reference.bytes_per_sample:.0%} of the bytes."
    )


def _points(margin: float) -> str:
    points = 100 * margin
    return f"{points:g} point" + ("" if points == 1 else "s")


def _notes(
    conditions: Sequence[ConditionResult], reference: ConditionResult | None, found: Sequence[SufficientBytes]
) -> list[str]:
    notes = []
    for each in found:
        if each.low == each.high:
            continue
        low = "less than was measured" if each.low is None else f"{each.low:,.0f}"
        high = "more than was measured" if each.high is None else f"{each.high:,.0f}"
        notes.append(
            f"The smallest sufficient bytes of {KINDS[each.kind].title} are uncertain: with 95 % they are from {low} "
            f"to {high}."
        )
    smallest = {each.kind: min(one.bytes_per_sample for one in conditions if one.kind == each.kind) for each in found}
    for each in found:
        if each.bytes is not None and each.bytes == smallest[each.kind]:
            notes.append(
                f"The smallest {KINDS[each.kind].title} that were measured, {each.bytes:,.0f} bytes, are already "
                "enough; fewer may be, too."
            )
    names = {run.name.split(", ")[0] for each in conditions for run in each.runs}
    if len({name for name in names if name.startswith("seed")}) == 1:
        notes.append("One seed was trained, so intervals cover new test samples, but not new seeds; train three.")
    if reference is not None and reference.runs and len(reference.runs[0].predicted) < 300:
        notes.append(
            f"Only {len(reference.runs[0].predicted)} samples were tested: differences of less than a few points "
            "cannot be seen."
        )
    return notes


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
