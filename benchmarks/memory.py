"""What a process occupies, from /proc: 0 where there is none (only Linux has these numbers)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

__all__ = ["peak", "reset_peak", "resident"]


def resident(process: int | str = "self") -> int:
    """Return the bytes that a process holds in memory now."""
    return _field(process, "VmRSS:")


def peak(process: int | str = "self") -> int:
    """Return the most bytes that it held since its start or `reset_peak`."""
    return _field(process, "VmHWM:")


def reset_peak(process: int | str = "self") -> None:
    """Let the peak begin at what the process holds now."""
    with suppress(OSError):
        Path(f"/proc/{process}/clear_refs").write_text("5")


def _field(process: int | str, name: str) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)
