"""The samples on which a model is most wrong, with what it says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from classifiers.evaluation.multilabel import THRESHOLD
from classifiers.evaluation.predictions import Answers, Predictions

MAX_MISTAKES = 24


@dataclass(frozen=True)
class Mistake:
    """One sample, and what is wrong with its prediction."""

    row: int
    """Number of the sample in the split."""
    truth: str
    answer: str


def worst_mistakes(
    outcome: Answers | Predictions, names: Sequence[str] | None, count: int = MAX_MISTAKES
) -> list[Mistake]:
    """Return the samples of largest error, the worst first; none where the model is right.

    The error is, of one class a sample, how improbable the label is, among the samples of which another class was
    predicted; of several, the largest error of a probability on the wrong side of 0.5; of regression, the largest
    distance in deviations of the target.
    """
    if isinstance(outcome, Answers):
        return _wrong_classes(outcome, names, count)
    if outcome.label_kind == "multilabel":
        return _wrong_labels(outcome, names, count)
    return _far_targets(outcome, names, count)


def output_name(names: Sequence[str] | None, number: int) -> str:
    """Return the name of a class or target, or its number if it has none."""
    return names[number] if names is not None and number < len(names) else str(number)


def _wrong_classes(answers: Answers, names: Sequence[str] | None, count: int) -> list[Mistake]:
    wrong = np.flatnonzero((answers.labels >= 0) & (answers.predicted != answers.labels))
    order = np.argsort(answers.scores.label_probability[wrong], kind="stable")
    mistakes = []
    for row in map(int, wrong[order[:count]]):
        of_label, confidence = answers.scores.label_probability[row], answers.scores.confidence[row]
        truth = f"{output_name(names, answers.labels[row])} ({of_label:.0%})"
        mistakes.append(Mistake(row, truth, f"{output_name(names, answers.predicted[row])} ({confidence:.0%})"))
    return mistakes


def _wrong_labels(predictions: Predictions, names: Sequence[str] | None, count: int) -> list[Mistake]:
    truth, probabilities = predictions.labels == 1, predictions.probabilities
    is_wrong = truth != (probabilities > THRESHOLD)
    errors = np.where(is_wrong, np.abs(truth - probabilities), 0)
    rows = np.argsort(-errors.max(1, initial=0), kind="stable")[:count]
    mistakes = []
    for row in rows[errors[rows].max(1, initial=0) > 0].tolist():
        texts = []
        for chosen, sign in ((truth[row], "missing"), (~truth[row], "wrong")):
            numbers = np.flatnonzero(is_wrong[row] & chosen)
            numbers = numbers[np.argsort(-errors[row, numbers], kind="stable")][:3]
            parts = [f"{output_name(names, number)} ({probabilities[row, number]:.0%})" for number in numbers]
            texts += [f"{sign} {', '.join(parts)}"] if parts else []
        of_sample = [output_name(names, number) for number in np.flatnonzero(truth[row])]
        mistakes.append(Mistake(row, ", ".join(of_sample) or "none", "; ".join(texts)))
    return mistakes


def _far_targets(predictions: Predictions, names: Sequence[str] | None, count: int) -> list[Mistake]:
    targets = predictions.labels.reshape(len(predictions.labels), -1).astype(np.float64)
    known = ~np.isnan(targets)
    columns = [column[mask] for column, mask in zip(targets.T, known.T, strict=True)]
    deviations = np.array([column.std() if len(column) else 0 for column in columns])
    errors = np.abs(np.where(known, predictions.logits - targets, 0)) / np.where(deviations > 0, deviations, 1)
    rows = np.argsort(-errors.max(1, initial=0), kind="stable")[:count]
    mistakes = []
    for row in rows[errors[rows].max(1, initial=0) > 0].tolist():
        column = int(errors[row].argmax())
        name = f"{output_name(names, column)} " if targets.shape[1] > 1 else ""
        truth, answer = targets[row, column], predictions.logits[row, column]
        mistakes.append(Mistake(row, f"{name}{truth:.4g}", f"{answer:.4g}"))
    return mistakes
