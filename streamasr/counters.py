"""How the daemon does, in one line: now and then, and whenever somebody asks."""

import math
import os
import time
from collections.abc import Callable, Mapping

from streamasr.engine import Engine
from streamasr.serve.peer import MicrophoneStatus
from streamasr.serve.status import Metrics

MIB = 1 << 20

# Sums since the start; everything else is as it is now.
_GROWING = ("seconds", "audio_seconds", "compute_seconds", "finals", "dropped_seconds")


class Counters:
    """Gathers figures from where they are counted. All methods belong to the event loop."""

    def __init__(
        self, engine: Engine, metrics: Metrics, microphone: Callable[[], MicrophoneStatus]
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._microphone = microphone
        self._started_seconds = time.monotonic()
        self._before = dict.fromkeys(_GROWING, 0.0)

    def since_start(self) -> str:
        """Sums of all the time."""
        return self._line(self._sums())

    def since_last(self) -> str:
        """Sums since the last call."""
        sums = self._sums()
        grown = {name: value - self._before[name] for name, value in sums.items()}
        self._before = sums
        return self._line(grown)

    def _sums(self) -> dict[str, float]:
        counted = self._metrics.sums()
        return {
            "seconds": time.monotonic() - self._started_seconds,
            "audio_seconds": counted["streamasr_audio_seconds_total"],
            "compute_seconds": counted["streamasr_compute_seconds_total"],
            "finals": counted["streamasr_finals_total"],
            "dropped_seconds": counted["streamasr_microphone_overrun_seconds"],
        }

    def _line(self, sums: Mapping[str, float]) -> str:
        """``name=value`` for people and programs; ``nan`` for what cannot be found out, because
        no file descriptor is left."""
        counted = self._metrics.sums()
        streams = self._engine.streams
        audio_seconds = sums["audio_seconds"]
        figures: dict[str, float | str] = {
            **sums,
            "real_time_factor": sums["compute_seconds"] / audio_seconds if audio_seconds else 0,
            "microphone": self._microphone().state,
            "clients": counted["streamasr_connections"],
            "streams": len(streams),
            "backlog_seconds": sum(stream.backlog_seconds for stream in streams),
            "resident_mib": counted.get("process_resident_memory_bytes", math.nan) / MIB,
            "open_files": counted.get("process_open_fds", math.nan),
            "threads": _threads(),
        }
        return " ".join(f"{name}={_short(value)}" for name, value in figures.items())


def _threads() -> float:
    """How many there are; not a number where that cannot be found out."""
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208
    except OSError:
        return math.nan


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
