"""Whether the microphone is muted, also for the daemon that systemd starts after this one."""

import logging
import os
from pathlib import Path

FILE_NAME = "muted"

log = logging.getLogger(__name__)


class MuteSwitch:
    """What was asked for last. An empty file in ``folder`` keeps it for the next daemon; the one
    that systemd gives is gone when the service is stopped, and outlives a restart."""

    def __init__(self, folder: Path | None) -> None:
        """``folder`` None: nothing is kept."""
        self._file = None if folder is None else folder / FILE_NAME
        self.is_muted = self._file is not None and self._file.exists()

    @classmethod
    def of_environment(cls) -> "MuteSwitch":
        """With the first of systemd's runtime directories, where it gives any."""
        first = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        return cls(Path(first) if first else None)

    def set(self, muted: bool) -> None:
        """Remember ``muted``; a file that cannot be written is only logged."""
        self.is_muted = muted
        if self._file is None:
            return
        try:
            if muted:
                self._file.touch()
            else:
                self._file.unlink(missing_ok=True)
        except OSError as error:
            log.warning(
                "%s: %s; the next start does not know that the microphone is %s",
                self._file,
                error.strerror,
                "muted" if muted else "open",
            )
