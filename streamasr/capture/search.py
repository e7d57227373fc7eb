"""Finds a microphone again that was lost."""

import os
import time
from dataclasses import replace
from pathlib import Path

from streamasr.capture.microphone import Device, Microphone
from streamasr.config import CaptureConfig

SAME_DEVICE_SECONDS = 10.0
PAUSE_SECONDS = 5.0
"""Nobody who seeks waits as long between two tries: who did was muted meanwhile."""


class MicrophoneSearch:
    """Calling it is one try to open the microphone that ``config`` asks for; it raises
    CaptureError.

    A device that was chosen with ``--device`` is the same device ever after, by its name: indexes
    change when devices come and go. Without ``--device`` it is whatever the system's default is
    by then; but while a sound server starts anew, the bare card is the default for a moment, and
    whoever opens it keeps the server from it. So for some seconds only the same device will do.
    """

    def __init__(
        self, config: CaptureConfig, sample_rate_hz: int, lost: Device | None = None
    ) -> None:
        """``lost`` is the device that was open before, if one was."""
        self._config = config
        self._sample_rate_hz = sample_rate_hz
        self._lost = lost
        self._since_seconds: float | None = None
        self._tried_seconds = 0.0

    def __call__(self) -> Microphone:
        now_seconds = time.monotonic()
        if self._since_seconds is None or now_seconds - self._tried_seconds > PAUSE_SECONDS:
            self._since_seconds = now_seconds
        config = self._config
        is_early = now_seconds - self._since_seconds < SAME_DEVICE_SECONDS
        if self._lost is not None and (config.device is not None or is_early):
            config = replace(config, device=self._lost.name)
        try:
            found = Microphone(config, self._sample_rate_hz)
        finally:
            self._tried_seconds = time.monotonic()
        self._lost = found.device
        self._since_seconds = None
        return found


Traces = tuple[tuple[int, int] | None, ...]


def sound_traces() -> Traces:
    """Changes when a sound card or a sound server comes or goes; costs next to nothing."""
    return tuple(_trace(path) for path in (Path("/dev/snd"), *server_sockets()))


def server_sockets() -> list[Path]:
    """Where sound servers of this machine listen: what ``$PULSE_SERVER`` names, be it there or
    not; else what is there in the user's folders."""
    if named := os.environ.get("PULSE_SERVER"):
        path = named.partition("unix:")[2] or named
        return [Path(path)] if path.startswith("/") else []
    sockets: list[Path] = []
    if folder := os.environ.get("PULSE_RUNTIME_PATH"):
        sockets.append(Path(folder, "native"))
    if folder := os.environ.get("XDG_RUNTIME_DIR"):
        sockets += (Path(folder, "pulse", "native"), Path(folder, "pipewire-0"))
    return [path for path in sockets if _trace(path) is not None]


def _trace(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
