"""Copies from host memory to a CUDA device that overlap with computation there."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch

from walloc_cdl.data.batch import LatentBatch
from walloc_cdl.data.readers import Reader
from walloc_cdl.data.sampler import Selection


@dataclass
class _Slot:
    """Pinned memory for one batch, and the event that records the end of its last copy."""

    codes: torch.Tensor
    labels: torch.Tensor
    copied: torch.cuda.Event


@dataclass(frozen=True)
class StagedBatch:
    """A batch that is being copied to the device."""

    codes: torch.Tensor
    labels: torch.Tensor
    copied: torch.cuda.Event

    def receive(self) -> LatentBatch:
        """Make the consumer's current stream wait for the copy; the host does not wait."""
        stream = torch.cuda.current_stream(self.codes.device)
        stream.wait_event(self.copied)
        for tensor in (self.codes, self.labels):
            tensor.record_stream(stream)  # otherwise its memory could be reused by the next copy while it is read
        return LatentBatch(self.codes, self.labels)


class PinnedCopies:
    """Starts copies of batches from pinned memory to a CUDA device, on a separate stream; thread-safe."""

    def __init__(self, reader: Reader, batch_size: int, shape: tuple[int, ...], device: torch.device) -> None:
        self._reader = reader
        self._shape = (batch_size, *shape)
        self._labels = torch.from_numpy(reader.labels[:0])
        self._stream = torch.cuda.Stream(device)
        self._slots: deque[_Slot] = deque()

    def stage(self, selection: Selection) -> StagedBatch:
        """Gather these samples into pinned memory, and start the copy."""
        slot = self._acquire()
        count = len(selection.rows)
        self._reader.fill(selection, slot.codes.numpy()[:count])
        slot.labels[:count] = torch.from_numpy(self._reader.labels[selection.rows])
        with torch.cuda.stream(self._stream):
            device = self._stream.device
            codes = slot.codes[:count].to(device, non_blocking=True)
            batch_labels = slot.labels[:count].to(device, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record(self._stream)
        slot.copied = copied
        self._slots.append(slot)
        return StagedBatch(codes, batch_labels, copied)

    def _acquire(self) -> _Slot:
        """Returns the slot whose copy was started first, once the copy is done; a new slot if all are being filled."""
        try:
            slot = self._slots.popleft()
        except IndexError:
            return _Slot(
                torch.empty(self._shape, dtype=torch.uint8, pin_memory=True),
                torch.empty((self._shape[0], *self._labels.shape[1:]), dtype=self._labels.dtype, pin_memory=True),
                torch.cuda.Event(),
            )
        slot.copied.synchronize()
        return slot
