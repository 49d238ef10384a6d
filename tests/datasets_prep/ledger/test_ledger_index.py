"""`LedgerIndex` finds the entry of a sample by its name alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets_prep.ledger.index import (
    OMITTED,
    REMOVED,
    STORED,
    UNKNOWN,
    UNUSABLE,
    LedgerIndex,
    row_hashes,
    sample_hashes,
)
from datasets_prep.ledger.table import SCHEMA, hidden_key

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
STATES = (STORED, UNUSABLE, OMITTED, REMOVED)
NAMES = st.lists(
    st.tuples(st.sampled_from(["train", "test", None]), TEXT, st.sampled_from(STATES)), unique_by=lambda n: n[:2]
)


def ledger(names: list[tuple[str | None, str, int]]) -> pa.Table:
    rows = []
    for number, (split, key, state) in enumerate(names):
        row = {**dict.fromkeys(SCHEMA.names), "split": split, "key": key, "label": number - 1, "num_bytes": number}
        if state == STORED:
            row |= {"shard": "train-00000.safetensors", "row": number}
        else:
            row |= {
                UNUSABLE: {"reason": "cannot be decoded"},
                OMITTED: {"reason": "duplicate"},
                REMOVED: {"reason": "dropped", "key": hidden_key(key)},
            }[state]
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=SCHEMA)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(NAMES, NAMES)
def test_every_row_is_found_and_no_other_name(names, others):
    rows = ledger(names)
    known = LedgerIndex([rows.slice(0, 2), rows.slice(2)])
    assert len(known) == len(names)
    for number, (split, key, state) in enumerate(names):
        (position,) = known.find(sample_hashes(split, [key]))
        assert (known.num_bytes[position], known.labels[position], known.states[position]) == (
            number,
            number - 1,
            state,
        )
    assert sorted(known.find(row_hashes(rows)).tolist()) == list(range(len(names)))
    known_names = {name[:2] for name in names}
    for split, key, _ in others:
        (position,) = known.find(sample_hashes(split, [key]))
        assert (position != UNKNOWN) == ((split, key) in known_names)


def test_hashes_with_the_same_first_half(monkeypatch):
    names = [("train", str(number), REMOVED if number % 2 else STORED) for number in range(6)]
    numbers = {hidden_key(key): number for number, (_, key, _) in enumerate(names)}

    def colliding(pairs):
        return np.array([[number // 4, number] for number in (numbers.get(key, 7) for _, key in pairs)], np.uint64)

    monkeypatch.setattr("datasets_prep.ledger.index._hashes", colliding)
    known = LedgerIndex([ledger(names)])
    found = known.find(sample_hashes("train", ["5", "3", "0", "none", "2"]))
    assert known.num_bytes[found[[0, 1, 2, 4]]].tolist() == [5, 3, 0, 2]
    assert found[3] == UNKNOWN
