"""Selects the columns of a Hugging Face data set or Parquet file that hold images and labels; reads the labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from datasets import ClassLabel, Features, Image, LargeList, Sequence, Value
from datasets import List as ListFeature

from datasets_prep.sources.core.label_kinds import ClassLabels, Labels, MultiLabels, Targets
from datasets_prep.sources.core.label_notes import all_unknown_note
from datasets_prep.sources.core.options import column_names, flag, optional_flag, split_options
from walloc_cdl.errors import CallError

IMAGE_NAMES = ("image", "img", "jpg", "png")
LABEL_NAMES = ("label", "labels")
OPTIONS = ("image", "label", "target", "group", "keep", "absolute", "public")


@dataclass(frozen=True)
class ColumnOptions:
    """The columns selected by a source's options. None selects a column by its type and name."""

    image: str | None = None
    label: str | None = None
    """Column of classes: numbers, names, or lists of them."""
    target: tuple[str, ...] = ()
    """Columns of regression targets."""
    group: str | None = None
    """Column of groups: samples with the same value stay together in a holdout."""
    keep: tuple[str, ...] = ()
    """Further columns, stored in the ledger."""
    absolute: bool = False
    """Whether rows may name files by absolute paths; see `NamedFiles`."""
    public: bool = False
    """See `FileSlice.public`."""
    streaming: bool = False
    splits: bool | None = None
    """Whether the names of files begin with names of splits; None to decide by these names."""

    def __post_init__(self) -> None:
        if self.label is not None and self.target:
            raise CallError("source options label and target; give one of them")


def split_columns(text: str, further: str) -> tuple[str, ColumnOptions]:
    """Split `text` into the name and the options after the question mark.

    `further`: the option that is allowed besides those of columns, `streaming` or `splits`. Raises `CallError` for
    unknown or contradictory options.
    """
    name, options = split_options(text, (*OPTIONS, further))
    multiple = {key: column_names(options, key) for key in ("target", "keep")}
    single = {key: options.get(key) for key in ("image", "label", "group")}
    streaming, splits = flag(options, "streaming"), optional_flag(options, "splits")
    files = {key: flag(options, key) for key in ("absolute", "public")}
    return name, ColumnOptions(**single, **multiple, **files, streaming=streaming, splits=splits)


def image_column(name: str, features: Features, wanted: str | None) -> str:
    """Return the column of images; raises `CallError` if there is none, or if it is ambiguous."""
    columns = [column for column, feature in features.items() if _holds_images(column, feature)]
    if wanted is not None:
        return require_column(name, features, wanted)
    preferred = [column for column in IMAGE_NAMES if column in columns]
    if preferred or len(columns) == 1:
        return (preferred or columns)[0]
    if not columns:
        raise CallError(
            f"no image column in data set {name!r}, only {', '.join(features)}; "
            "choose a data set of images, or name the column with ?image=COLUMN"
        )
    raise CallError(f"several image columns in data set {name!r}: {', '.join(columns)}; choose with ?image=COLUMN")


def require_column(name: str, features: Features, wanted: str) -> str:
    """Return `wanted` if there is such a column; raises `CallError` otherwise."""
    if wanted not in features:
        raise CallError(f"data set {name!r} has no column {wanted!r}; its columns are {', '.join(features)}")
    return wanted


class ColumnLabels:
    """Collects the labels of a data set from Arrow batches."""

    def __init__(self, name: str, features: Features, options: ColumnOptions) -> None:
        self.columns: list[str] = []
        """Columns that `append` needs."""
        self.labels: Labels | None = None
        self._name, self._note = name, ""
        self._names: list[str] | None = None
        self.is_tentative = False
        """Whether the column was found by its name alone and holds floats, which are classes only if they are whole."""
        if options.target:
            self.columns = [require_column(name, features, column) for column in options.target]
            for column in self.columns:
                _require_number(name, column, features[column])
            self.labels = Targets(self.columns)
            return
        column = _label_column(name, features, options.label)
        if column is None:
            self._note = _missing_note(name, features)
            return
        self.columns, feature = [column], features[column]
        self.is_tentative = options.label is None and _is_float(feature)
        inner = _item(feature)
        self._names = _class_names(feature)
        self.labels = ClassLabels(self._names) if inner is feature else MultiLabels(self._names)

    def require_same(self, features: Features, where: str) -> None:
        """Raise `CallError` if class numbers mean other classes in further rows, whose location `where` describes."""
        for column in self.columns:
            found = _class_names(features[column])
            if found != self._names:
                raise CallError(
                    f"column {column!r} of data set {self._name!r} has the classes {str(self._names)[:80]}, but "
                    f"{where} has {str(found)[:80]}; cast all to the same ClassLabel, or prepare them one by one"
                )

    def append(self, split: str, batch: pa.RecordBatch | pa.Table) -> None:
        """Append the labels of further rows; raises `CallError` for class numbers without a name."""
        if self.labels is None:
            return
        values = [batch.column(column).to_pylist() for column in self.columns]
        for row in zip(*values, strict=True):
            if isinstance(self.labels, Targets):
                self.labels.append(split, row)
            elif isinstance(self.labels, MultiLabels):
                self.labels.append(split, [self._class_name(item) for item in row[0] or ()])
            else:
                self._append_class(split, row[0])
                if self.labels is None:
                    return

    def are_missing(self, features: Features, where: str) -> bool:
        """Return whether further rows, whose location `where` describes, have no labels, as those of a test split.

        Raises `CallError` if they have only some of the columns, or labels in another column.
        """
        missing = [column for column in self.columns if column not in features]
        if missing and (len(missing) < len(self.columns) or _label_column(where, features, None) is not None):
            require_column(where, features, missing[0])
        return bool(missing)

    def append_unknown(self, split: str, count: int) -> None:
        """Append unknown labels for the rows of a split that does not have the columns."""
        if self.labels is not None:
            value = [None] * len(self.columns) if isinstance(self.labels, Targets) else None
            for _ in range(count):
                self.labels.append(split, value)

    def notes(self) -> list[str]:
        """Return why there are no labels, if there are none, for users; call it after the last `append`."""
        if self.labels is not None and not self.labels.names():
            return [all_unknown_note(f"column {self.columns[0]!r} of data set {self._name!r}")]
        return [self._note] if self._note else []

    def _append_class(self, split: str, value: Any) -> None:
        try:
            self.labels.append(split, self._class_name(value))
        except CallError as error:
            if not isinstance(value, float):
                raise
            column, shown = self.columns[0], f"{value:g}"
            found = f"column {column!r} of data set {self._name!r} holds numbers such as {shown}, which are not classes"
            if not self.is_tentative:
                raise CallError(f"{found}; choose regression targets with ?target={column}") from error
            self.labels = None
            self._note = f"no labels: {found}; give ?target={column} for regression, or ?label=COLUMN for classes"

    def _class_name(self, value: str | float | None) -> str | float | None:
        if self._names is None or value is None or value == -1:
            return None if self._names is not None else value
        if not 0 <= int(value) < len(self._names):
            raise CallError(
                f"label {value} of column {self.columns[0]!r}; expected 0 to {len(self._names) - 1}; check the labels"
            )
        return self._names[int(value)]


def _label_column(name: str, features: Features, wanted: str | None) -> str | None:
    if wanted is not None:
        feature = _item(features[require_column(name, features, wanted)])
        if not is_class(feature) and not _is_float(features[wanted]):
            raise CallError(
                f"column {wanted!r} of data set {name!r} holds {feature}, not classes; choose regression targets with "
                "?target=COLUMN"
            )
        return wanted
    for column in LABEL_NAMES:
        if column in features and is_class(_item(features[column])):
            return column
    columns = [column for column, feature in features.items() if isinstance(_item(feature), ClassLabel)]
    if len(columns) > 1:
        raise CallError(f"several label columns in data set {name!r}: {', '.join(columns)}; choose with ?label=COLUMN")
    floats = [column for column in LABEL_NAMES if column in features and _is_float(features[column])]
    return next(iter([*columns, *floats]), None)


def is_class(feature: object) -> bool:
    """Return whether values of a feature can be classes: a `ClassLabel`, strings, integers, or booleans."""
    dtype = str(getattr(feature, "dtype", ""))
    return isinstance(feature, ClassLabel) or (
        isinstance(feature, Value) and (dtype in ("string", "large_string", "string_view", "bool") or "int" in dtype)
    )


def _is_float(feature: object) -> bool:
    """Return whether a column holds floats, as which pandas writes integers with gaps."""
    return isinstance(feature, Value) and feature.dtype.startswith(("float", "double"))


def _missing_note(name: str, features: Features) -> str:
    """Return the message for a data set without a column of labels: what was looked for, and what there is."""
    unusable = [column for column in LABEL_NAMES if column in features]
    if unusable:
        found = f"its column {unusable[0]!r} holds {_kind(features[unusable[0]])}, which are not classes"
    else:
        found = "it has no column called label or labels, and none of ClassLabel"
    columns = ", ".join(f"{column} ({_kind(feature)})" for column, feature in features.items())
    return (
        f"no labels in data set {name!r}: {found}; its columns are {columns[:400]}; name one with ?label=COLUMN "
        "(classes) or ?target=COLUMN (numbers)"
    )


def _kind(feature: object) -> str:
    """Return the type of a column in short."""
    return str(feature.dtype) if isinstance(feature, Value) else " ".join(str(feature).split())[:40].partition("(")[0]


def _class_names(feature: object) -> list[str] | None:
    """Return the class names of a `ClassLabel`, or of a list of `ClassLabel`; None for other features."""
    inner = _item(feature)
    return list(inner.names) if isinstance(inner, ClassLabel) else None


def _item(feature: object) -> object:
    """Return the item feature of a list; any other feature itself."""
    if isinstance(feature, (ListFeature, LargeList, Sequence)):
        return feature.feature
    return feature[0] if isinstance(feature, list) and feature else feature


def _require_number(name: str, column: str, feature: object) -> None:
    dtype = str(getattr(feature, "dtype", ""))
    if not isinstance(feature, Value) or not dtype.startswith(("float", "int", "uint", "double", "bool")):
        raise CallError(f"column {column!r} of data set {name!r} holds {feature}, not numbers; choose another ?target=")


def _holds_images(column: str, feature: object) -> bool:
    """Return whether a column holds `Image` features, or, in plain Parquet files, bytes under a usual name."""
    if isinstance(feature, Image):
        return True
    if isinstance(feature, dict):
        return "bytes" in feature and column in IMAGE_NAMES
    return getattr(feature, "dtype", None) in ("binary", "large_binary", "binary_view") and column in IMAGE_NAMES


def texts(array: pa.Array | pa.ChunkedArray) -> Iterable[bytes]:
    """Yield the values as UTF-8 text, for keys and groups; b"" for a missing value."""
    return (b"" if value is None else str(value).encode("utf-8", "surrogatepass") for value in array.to_pylist())
