"""Simple classifiers on features, with their setting chosen by cross-validation; all are scikit-learn's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from walloc_cdl.errors import CallError, unknown_name

PENALTIES = tuple(10.0**power for power in range(-4, 1))
"""Values of C of a logistic regression, the inverse of the penalty on the weights of standardized features."""
SVM_PENALTIES = tuple(10.0**power for power in range(-5, -1))
"""Those of a linear support vector machine."""
NEIGHBORS = (1, 3, 5, 10, 20, 40)
INNER_FOLDS = 3
MAX_STEPS = 1000


@dataclass(frozen=True)
class Head:
    """A kind of classifier, and the setting that cross-validation chooses."""

    name: str
    title: str
    setting: str
    """The name of the setting in scikit-learn."""
    values: tuple[float, ...]
    build: Callable[[], Any]
    """Returns scikit-learn's classifier."""


@dataclass(frozen=True, eq=False)
class FittedHead:
    """A fitted classifier."""

    model: Any
    """scikit-learn's pipeline of standardization and classifier."""
    setting: dict[str, float]
    """The chosen setting."""

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Returns the classes int64 (N,) of features (N, F)."""
        return self.model.predict(features)


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=MAX_STEPS)


def _neighbors() -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(weights="distance", metric="cosine")


def _svm() -> Any:
    from sklearn.svm import LinearSVC

    # With the default tolerance of 1e-4 it takes four times as long, for the same accuracy.
    return LinearSVC(dual=True, tol=0.1, max_iter=MAX_STEPS, random_state=0)


HEADS = {
    head.name: head
    for head in (
        Head("logistic", "logistic regression", "C", PENALTIES, _logistic),
        Head("knn", "nearest neighbors", "n_neighbors", NEIGHBORS, _neighbors),
        Head("svm", "linear SVM", "C", SVM_PENALTIES, _svm),
    )
}


def choose_heads(names: Sequence[str]) -> list[Head]:
    """Returns the heads of these names; raises `CallError` for an unknown one and for none."""
    for name in names:
        if name not in HEADS:
            raise unknown_name("head", name, HEADS, f"choose from {', '.join(HEADS)}")
    if not names:
        raise CallError(f"no head; choose from {', '.join(HEADS)}")
    return [HEADS[name] for name in dict.fromkeys(names)]


def fit_head(
    head: Head,
    features: np.ndarray,
    labels: np.ndarray,
    *,
    values: Sequence[float] | None = None,
    folds: int = INNER_FOLDS,
    scoring: str = "accuracy",
    seed: int = 0,
) -> FittedHead:
    """Fit a head to features (N, F), standardized in each fold, and class numbers int64 (N,).

    The setting is that of `values` with the best score in cross-validation over `folds`, at most as many as the
    smallest class has samples; a single one of `values` is taken as it is. Raises `CallError` for a single class, and
    for a class with fewer than two samples if there is something to choose.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    counts = np.unique(labels, return_counts=True)[1]
    if len(counts) < 2:
        raise CallError("all training samples have the same class, so there is nothing to learn; give more classes")
    if (smallest := int(counts.min())) < 2 and (values is None or len(values) > 1):
        raise CallError("a class with fewer than two training images, too few to choose a penalty; give more images")
    folds = max(2, min(folds, smallest))
    tried = head.values if values is None else tuple(values)
    if head.setting == "n_neighbors":
        most = len(labels) - -(-len(labels) // folds)  # samples outside of the largest fold
        tried = tuple(int(value) for value in tried if value <= most)
    pipeline = Pipeline([("scale", StandardScaler()), ("head", head.build())])
    if len(tried) == 1:
        pipeline.set_params(**{f"head__{head.setting}": tried[0]})
        with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
            warnings.simplefilter("ignore", ConvergenceWarning)
            return FittedHead(pipeline.fit(features, labels), {head.setting: tried[0]})
    search = GridSearchCV(
        pipeline,
        {f"head__{head.setting}": tried},
        cv=StratifiedKFold(folds, shuffle=True, random_state=seed),
        scoring=scoring,
    )
    # The products of a step take less time than threads take to meet: with two, beside a busy program, a hundred times.
    with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
        # Weak penalties, which cross-validation seldom chooses, may not converge; that is no failure of the probe.
        warnings.simplefilter("ignore", ConvergenceWarning)
        search.fit(features, labels)
    chosen = search.best_params_[f"head__{head.setting}"]
    return FittedHead(search.best_estimator_, {head.setting: chosen})
