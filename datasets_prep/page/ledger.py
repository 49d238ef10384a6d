"""What a ledger says of samples that are not stored, or are stored twice, without loading all of its rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from datasets_prep.ledger.rewrite import ledger_parts
from walloc_cdl.latents import LEDGER_NAME, Manifest

SHOWN_ROWS = 50
"""Of the samples with a reason, and of the duplicates."""
COLUMNS = ["split", "key", "reason", "duplicate_of"]


@dataclass
class LedgerOverview:
    """Counts over all rows, and the first of them."""

    num_rows: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    num_duplicates: int = 0
    omitted: list[dict[str, Any]] = field(default_factory=list)
    """The first `SHOWN_ROWS` samples that are not stored, with their reasons."""
    duplicates: list[dict[str, Any]] = field(default_factory=list)
    """The first `SHOWN_ROWS` stored samples whose content another one has, too."""


def read_overview(folder: Path, manifest: Manifest) -> LedgerOverview | None:
    """Returns an overview of a data set's ledger, read in parts; None if there is none.

    Raises `DamagedError` for a file that is no ledger.
    """
    if not (folder / LEDGER_NAME).is_file():
        return None
    found = LedgerOverview()
    for part in ledger_parts(folder, manifest):
        rows = part.select(COLUMNS)
        found.num_rows += rows.num_rows
        for row in rows.filter(pc.is_valid(rows["reason"])).to_pylist():
            found.reasons[row["reason"].partition(":")[0]] += 1
            if len(found.omitted) < SHOWN_ROWS:
                found.omitted.append(row)
        for row in rows.filter(pc.is_valid(rows["duplicate_of"])).to_pylist():
            found.num_duplicates += 1
            if len(found.duplicates) < SHOWN_ROWS:
                found.duplicates.append(row)
    return found
