"""Kinds of labels: how each kind is stored, which values are valid, and which counts are taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LABEL_KINDS = ("none", "class", "multilabel", "regression")

UNKNOWN_LABEL = -1


@dataclass(frozen=True)
class LabelSpec:
    """Kind and shape of the label that every sample of a data set has.

    | kind | tensor | type and shape | unknown |
    | --- | --- | --- | --- |
    | `class` | `labels` | int64 (N,), class numbers | -1 |
    | `multilabel` | `labels` | uint8 (N, L), 1 for each class that applies, 0 for the others | – |
    | `regression` | `targets` | float32 (N,) for one target, (N, T) for several; finite | NaN |
    | `none` | – | | |
    """

    kind: str = "none"
    num_columns: int = 0
    """Number of named classes (0 if class numbers have no names), L, or T; 0 without labels."""

    @property
    def tensor_name(self) -> str | None:
        """Name of the tensor in a shard; None without labels."""
        return {"class": "labels", "multilabel": "labels", "regression": "targets"}.get(self.kind)

    @property
    def dtype(self) -> np.dtype:
        """Type of the tensor, little-endian; without labels, the type of class numbers."""
        return np.dtype({"multilabel": "u1", "regression": "<f4"}.get(self.kind, "<i8"))

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample's label: (L,), (T,), or () for a single number."""
        several = self.kind == "multilabel" or (self.kind == "regression" and self.num_columns > 1)
        return (self.num_columns,) if several else ()

    def unlabeled(self, num_samples: int) -> np.ndarray:
        """Return class numbers, int64 (N,), that are all -1 (unknown), for samples without labels."""
        return np.full(num_samples, UNKNOWN_LABEL, np.int64)

    def invalid(self, labels: np.ndarray) -> np.ndarray:
        """Return which samples have an invalid label for this kind: bool (N,)."""
        if self.kind == "class":
            is_invalid = labels < UNKNOWN_LABEL
            return is_invalid | (labels >= self.num_columns) if self.num_columns else is_invalid
        is_invalid = labels > 1 if self.kind == "multilabel" else np.isinf(labels)
        return is_invalid.any(1) if self.sample_shape else is_invalid

    @property
    def valid_values(self) -> str:
        """Description of the values that `invalid` accepts."""
        if self.kind == "class":
            return f"-1 to {self.num_columns - 1}" if self.num_columns else "a class number, or -1 for unknown"
        return "0 or 1" if self.kind == "multilabel" else "a finite number, or NaN for unknown"

    def zero_class_counts(self) -> np.ndarray | None:
        """Return the class counts of zero samples, int64 (classes,); None without named classes."""
        is_counted = self.num_columns and self.kind in ("class", "multilabel")
        return np.zeros(self.num_columns, np.int64) if is_counted else None

    def class_counts(self, labels: np.ndarray | None) -> np.ndarray | None:
        """Return the number of samples of each class, int64 (classes,); None without named classes.

        A sample of several classes counts for each of them. Values that are not a class are not counted.
        """
        if labels is None or self.zero_class_counts() is None:
            return None
        if self.kind == "multilabel":
            return (labels == 1).sum(0, dtype=np.int64)
        known = labels[(labels >= 0) & (labels < self.num_columns)]
        return np.bincount(known, minlength=self.num_columns)

    def problem(self) -> str | None:
        """Describe what is wrong with this specification; None if it is valid."""
        if self.kind not in LABEL_KINDS:
            return f"label kind is {self.kind!r}, expected one of {', '.join(LABEL_KINDS)}"
        if self.kind in ("multilabel", "regression") and self.num_columns < 1:
            return f"labels of kind {self.kind} without a name for any column"
        if self.kind == "none" and self.num_columns:
            return "names of labels, but no labels"
        return None


def infer_label_spec(labels: np.ndarray | None) -> LabelSpec:
    """Return the label specification that the array's type and shape imply; class numbers if they imply no other."""
    if labels is None:
        return LabelSpec()
    if labels.dtype == np.uint8 and labels.ndim == 2:
        return LabelSpec("multilabel", labels.shape[1])
    if labels.dtype == np.float32 and labels.ndim in (1, 2):
        return LabelSpec("regression", 1 if labels.ndim == 1 else labels.shape[1])
    return LabelSpec("class")
