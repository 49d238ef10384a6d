"""Measures the peak memory of a call, as the kernel records it for the process."""

from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Context manager whose `num_bytes` is the peak minus the memory at entry; 0 if the kernel does not record it."""

    num_bytes = 0

    def __enter__(self) -> "PeakMemory":
        if RESET.exists():
            RESET.write_text("5")  # resets the peak
            self._before = _field("VmRSS")
        return self

    def __exit__(self, *error: object) -> None:
        if RESET.exists():
            self.num_bytes = _field("VmHWM") - self._before


def _field(name: str) -> int:
    return next(int(line.split()[1]) * 1024 for line in STATUS.read_text().splitlines() if line.startswith(name))
