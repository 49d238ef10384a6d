"""Further columns of a source, as an Arrow table that is moved to disk when it becomes large."""

from __future__ import annotations

import tempfile
from typing import Any

import pyarrow as pa

from datasets_prep.samples.columns import SPILL_BYTES


class TableBuilder:
    """Builds a table from batches of one schema; beyond `SPILL_BYTES` the table lies in a temporary file."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self._batches: list[pa.RecordBatch] = []
        self._pending_bytes = 0
        self._file: Any = None
        self._writer: pa.RecordBatchFileWriter | None = None

    def append(self, batch: pa.RecordBatch) -> None:
        """Append a batch of rows."""
        self._batches.append(batch)
        self._pending_bytes += batch.nbytes
        if self._pending_bytes >= SPILL_BYTES:
            self._spill()

    def table(self) -> pa.Table:
        """Return all rows."""
        if self._writer is None:
            return pa.Table.from_batches(self._batches, self.schema)
        self._spill()
        self._writer.close()
        self._file.flush()
        return pa.ipc.open_file(pa.memory_map(self._file.name)).read_all()

    def _spill(self) -> None:
        if self._writer is None:
            self._file = tempfile.NamedTemporaryFile(prefix="cdl-columns-")  # noqa: SIM115 - lives as long as the table
            self._writer = pa.ipc.new_file(self._file, self.schema)
        for batch in self._batches:
            self._writer.write_batch(batch)
        self._file.flush()
        self._batches, self._pending_bytes = [], 0
