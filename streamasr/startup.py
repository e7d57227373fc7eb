"""What the time goes into from when the process began to when the daemon is ready."""

import gc
import os
import time
from pathlib import Path


class Startup:
    """Named parts of a start, in seconds, one after the other: they add up to the whole.

    Until ``loaded`` nothing looks for garbage: there is none, and looking for it took a seventh of
    the start.
    """

    def __init__(self, begin_seconds: float | None = None) -> None:
        """``begin_seconds`` since the machine booted; this process' begin where it is left out."""
        gc.disable()
        self._begin_seconds = process_begin_seconds() if begin_seconds is None else begin_seconds
        self._last_seconds = self._begin_seconds
        self.parts: dict[str, float] = {}

    def lap(self, part: str) -> None:
        """What was done since the last call was ``part``."""
        now_seconds = _since_boot_seconds()
        spent_seconds = now_seconds - self._last_seconds
        self.parts[part] = self.parts.get(part, 0.0) + spent_seconds
        self._last_seconds = now_seconds

    @property
    def total_seconds(self) -> float:
        """From the begin to the last ``lap``."""
        return self._last_seconds - self._begin_seconds

    def loaded(self) -> None:
        """What is there now stays: garbage is looked for again, but not there."""
        gc.freeze()
        gc.enable()

    def __str__(self) -> str:
        parts = ", ".join(f"{part} {seconds:.2f}" for part, seconds in self.parts.items())
        return f"ready after {self.total_seconds:.2f} s: {parts}"


def process_begin_seconds() -> float:
    """When this process was started, in seconds since the machine booted, to 10 ms (proc(5))."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _since_boot_seconds() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
