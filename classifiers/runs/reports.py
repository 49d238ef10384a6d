"""What a run writes for people: the figures of each class, and its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from classifiers.evaluation.kinds import AnyMetrics
from classifiers.evaluation.predictions import Answers, Predictions
from classifiers.evaluation.reading import Reading
from classifiers.models.classifier import LatentClassifier
from walloc_cdl.data import LatentDataset
from walloc_cdl.files import write_atomic
from walloc_cdl.training import EpochFigures, RunFolder


def write_reports(
    model: LatentClassifier,
    dataset: LatentDataset | None,
    assessed: tuple[AnyMetrics, Answers | Predictions] | None,
    run: RunFolder,
    history: Sequence[EpochFigures],
    environment: Mapping[str, Any],
) -> AnyMetrics | None:
    """Write classes.csv and index.html, and return the metrics, None without a data set.

    `assessed` is what `assess` returns for the trained model and the data set.
    """
    from classifiers.report.page import Evaluation, run_page  # imports matplotlib

    evaluation = None
    if dataset is not None and assessed is not None:
        evaluation = Evaluation(*assessed, dataset, Reading())
        table = evaluation.metrics.to_csv(model.config.output_names)
        write_atomic(run.classes_path, table.encode())
    page = run_page(run.path.name, model.config, run.load_config(), history, environment, evaluation)
    write_atomic(run.page_path, page.encode("utf-8", "replace"))
    return None if evaluation is None else evaluation.metrics
