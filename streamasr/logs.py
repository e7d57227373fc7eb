"""Where log lines go: to standard error, as its reader likes them.

The journal wants a priority before each line and knows the time itself; everybody else gets the
time and the level. Lines are written on a thread of their own, so that a reader who does not read
(a pager, a stopped terminal) holds nobody up; what does not fit into the queue is counted.
"""

import logging
import os
import queue
import sys
import threading
from collections.abc import Mapping
from logging.handlers import QueueHandler

MAX_WAITING = 1_000
STOP_SECONDS = 0.2
# syslog(3)
_PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}

log = logging.getLogger(__name__)


class Logs:
    """Writes what is logged until ``stop``; one at a time.

    ``file`` is a standard error of its own: while a microphone is opened, the program's is
    silenced. It has no buffer, whose lock a writer that is stuck would hold at the end.
    """

    def __init__(self, *, has_captions: bool = False) -> None:
        """``has_captions``: captions are what a person wants to see; only warnings come then,
        but to the journal."""
        to_journal = is_journal(sys.stderr.fileno(), os.environ)
        self.file = os.fdopen(os.dup(sys.stderr.fileno()), "wb", buffering=0)
        self._formatter = _JournalFormatter() if to_journal else _TimedFormatter()
        self._queue: queue.Queue[logging.LogRecord | None] = queue.Queue(MAX_WAITING)
        self._handler = _Waiting(self._queue)
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()
        root = logging.getLogger()
        root.addHandler(self._handler)
        only_warnings = has_captions and not to_journal
        logging.getLogger("streamasr").setLevel(logging.WARNING if only_warnings else logging.INFO)

    def stop(self, timeout_seconds: float = STOP_SECONDS) -> None:
        """Write what waits, but not for longer than that."""
        logging.getLogger().removeHandler(self._handler)
        try:
            self._queue.put(None, timeout=timeout_seconds)
        except queue.Full:
            return
        self._thread.join(timeout_seconds)

    def _write_all(self) -> None:
        told_lost = 0
        while (record := self._queue.get()) is not None:
            self._write(self._formatter.format(record))
            lost = self._handler.lost
            if lost > told_lost:
                message = f"{lost - told_lost} log lines were lost: nobody read them in time"
                told_lost = lost
                record = logging.LogRecord(__name__, logging.WARNING, "", 0, message, None, None)
                self._write(self._formatter.format(record))

    def _write(self, text: str) -> None:
        # On a terminal captions may be shown: then sys.stderr keeps lines out of their way.
        try:
            if self.file.isatty():
                print(text, file=sys.stderr, flush=True)
            else:
                self.file.write(f"{text}\n".encode(errors="backslashreplace"))
        except (OSError, ValueError):
            pass  # the reader has gone; there is nobody to tell


def is_journal(file_descriptor: int, environment: Mapping[str, str]) -> bool:
    """Whether what is written there goes to systemd's journal; see systemd.exec(5)."""
    status = os.fstat(file_descriptor)
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class _Waiting(QueueHandler):
    """Never waits; ``lost`` counts what found no room."""

    lost = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.lost += 1


class _TimedFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z")


class _JournalFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Each line with its priority: a traceback has many."""
        priority = _PRIORITIES.get(record.levelno, 6)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())
