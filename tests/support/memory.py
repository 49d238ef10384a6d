"""What a call takes of memory at most, by the kernel's own account of the process."""

from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Context manager: `num_bytes` is the peak beyond what was there before; 0 where the kernel keeps no account."""

    num_bytes = 0

    def __enter__(self) -> "PeakMemory":
        if RESET.exists():
            RESET.write_text("5")  # the peak begins anew
            self._before = _field("VmRSS")
        return self

    def __exit__(self, *error: object) -> None:
        if RESET.exists():
            self.num_bytes = _field("VmHWM") - self._before


def _field(name: str) -> int:
    return next(int(line.split()[1]) * 1024 for line in STATUS.read_text().splitlines() if line.startswith(name))
