"""Columns that a source keeps beside its samples, as an Arrow table: on disk once they are large."""

from __future__ import annotations

import tempfile
from typing import Any

import pyarrow as pa

from datasets_prep.samples.columns import SPILL_BYTES


class TableBuilder:
    """A table of one schema, appended to in batches, then read; beyond `SPILL_BYTES` in an unnamed file."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._batches: list[pa.RecordBatch] = []
        self._waiting = 0
        self._file: Any = None
        self._writer: pa.RecordBatchFileWriter | None = None

    def append(self, batch: pa.RecordBatch) -> None:
        """Append rows."""
        self._batches.append(batch)
        self._waiting += batch.nbytes
        if self._waiting >= SPILL_BYTES:
            self._spill()

    def table(self) -> pa.Table:
        """All rows."""
        if self._writer is None:
            return pa.Table.from_batches(self._batches, self._schema)
        self._spill()
        self._writer.close()
        self._file.flush()
        return pa.ipc.open_file(pa.memory_map(self._file.name)).read_all()

    def _spill(self) -> None:
        if self._writer is None:
            self._file = tempfile.NamedTemporaryFile(prefix="cdl-columns-")  # noqa: SIM115 - lives as long as the table
            self._writer = pa.ipc.new_file(self._file, self._schema)
        for batch in self._batches:
            self._writer.write_batch(batch)
        self._file.flush()
        self._batches, self._waiting = [], 0
