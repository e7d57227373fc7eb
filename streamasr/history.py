"""What was said, kept in a file, where somebody asks for that: a line of JSON a final.

``HistoryFile`` is whole at every moment: a line is one write, taken back where the disk has no
room for all of it, and what a crash left half-written is cut off. ``History`` writes on a thread
of its own, so that a slow disk delays no caption; where the disk takes nothing, finals go on to
everybody else.
"""

import errno
import fcntl
import json
import logging
import os
import queue
import stat
import threading
from datetime import datetime
from pathlib import Path

from streamasr.config import HistoryConfig
from streamasr.errors import ConfigError
from streamasr.events import Final

MAX_WAITING = 1_000
TAIL_BYTES = 1 << 20
_LINE_START = b'{"time": "'

log = logging.getLogger(__name__)


class HistoryFile:
    """Lines in a file that only its owner can read, and nobody else keeps a history in; not for
    several threads at once.

    Beyond ``max_bytes`` it becomes ``FILE.1``, and so on up to ``FILE.keep_files``. Where the
    file was moved away or deleted, the next line begins it anew.
    """

    def __init__(self, path: Path, *, max_bytes: int, keep_files: int) -> None:
        """Raises ConfigError where the file cannot be written, or is something else. A missing
        folder is made; neither it nor the file can be read by others."""
        self._path = path
        self.max_bytes = max_bytes
        self.keep_files = keep_files
        try:
            self._file = self._open()
        except OSError as error:
            raise ConfigError(
                f"cannot keep the history in {path}: {error.strerror}; name a file in a folder of "
                "your own with --history, or leave it out"
            ) from None

    def append(self, line: str) -> None:
        """Add a line. Raises OSError where it cannot be kept; then the file is as before."""
        data = f"{line}\n".encode()
        if self._was_moved():
            self._reopen()
        size_bytes = os.fstat(self._file).st_size
        if size_bytes and size_bytes + len(data) > self.max_bytes:
            self._rotate()
            size_bytes = 0
        written_bytes = os.write(self._file, data)
        if written_bytes < len(data):
            os.ftruncate(self._file, size_bytes)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Nothing more will be appended."""
        os.close(self._file)

    def _open(self) -> int:
        """Raises OSError and ConfigError."""
        missing = [folder for folder in self._path.parents if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(0o700, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        file = os.open(self._path, flags, 0o600)
        try:
            status = _regular(self._path, os.fstat(file))
            self._lock(file)
            self._cut_torn_line(file, os.fstat(file).st_size)
            if status.st_mode & 0o077:
                os.fchmod(file, 0o600)
                log.warning("%s could be read by others: now by its owner only", self._path)
        except BaseException:
            os.close(file)
            raise
        return file

    def _lock(self, file: int) -> None:
        """Until it is closed. Who opens a history may cut what looks torn: a line that another
        is just writing. Raises OSError, and ConfigError where another has it."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another daemon keeps its history in {self._path}; name another file with "
                "--history"
            ) from None

    def _cut_torn_line(self, file: int, size_bytes: int) -> None:
        """Where a crash left half a line, cut it off. Raises ConfigError where the last lines are
        none of ours."""
        torn_bytes = _torn_bytes(self._path, file, size_bytes)
        if torn_bytes:
            os.ftruncate(file, size_bytes - torn_bytes)
            log.warning("%s ended in half a line, which was cut off", self._path)

    def _was_moved(self) -> bool:
        try:
            return not os.path.samestat(self._path.stat(), os.fstat(self._file))
        except FileNotFoundError:
            return True

    def _reopen(self) -> None:
        file = self._open()
        os.close(self._file)
        self._file = file

    def _rotate(self) -> None:
        """Number the files that are full one higher; the last is forgotten."""
        for number in range(self.keep_files, 0, -1):
            older = Path(f"{self._path}.{number}")
            newer = Path(f"{self._path}.{number - 1}") if number > 1 else self._path
            if newer.exists():
                newer.replace(older)
        self._reopen()


class History:
    """Keeps finals in a file. ``write`` never waits; a thread does the rest."""

    def __init__(self, path: Path, file: HistoryFile) -> None:
        """``file`` is the one at ``path``."""
        self.path = path
        self._file = file
        self._lines: queue.Queue[str | None] = queue.Queue(MAX_WAITING)
        self._is_stuck = False
        self._thread = threading.Thread(target=self._write_all, name="history", daemon=True)
        self._thread.start()

    def limit(self, max_bytes: int, keep_files: int) -> None:
        """From the next line on, files are as long, and as many, as this."""
        self._file.max_bytes = max_bytes
        self._file.keep_files = keep_files

    def write(self, final: Final) -> None:
        """Keep what was said; the time is now."""
        try:
            self._lines.put_nowait(_line(final, datetime.now().astimezone()))
            self._is_stuck = False
        except queue.Full:
            if not self._is_stuck:
                log.warning("the disk of %s hangs: finals are not kept until it goes on", self.path)
            self._is_stuck = True

    def close(self, timeout_seconds: float = 0.0) -> None:
        """Write what waits and let the file go; waits for that as long as is said."""
        try:
            self._lines.put_nowait(None)
        except queue.Full:
            return  # a disk that hangs: the end of the program closes the file
        self._thread.join(timeout_seconds)

    def _write_all(self) -> None:
        missing = 0
        while (line := self._lines.get()) is not None:
            try:
                self._file.append(line)
            except (OSError, ConfigError) as error:
                if not missing:
                    log.warning("cannot keep finals in %s until it is mended: %s", self.path, error)
                missing += 1
            else:
                if missing:
                    log.warning("%s goes on; finals that are missing: %d", self.path, missing)
                missing = 0
        self._file.close()


def open_history(config: HistoryConfig, present: History | None = None) -> History | None:
    """Ready to write; None where none is wanted. Where ``present`` keeps the same file it goes on.
    Raises ConfigError where it cannot be written."""
    if config.file is None:
        return None
    if present is not None and present.path == config.file:
        present.limit(config.max_bytes, config.keep_files)
        return present
    file = HistoryFile(config.file, max_bytes=config.max_bytes, keep_files=config.keep_files)
    return History(config.file, file)


def check_history_file(path: Path) -> None:
    """Whether what is at ``path`` may go on as a history; nothing is changed. Raises ConfigError,
    and OSError where it cannot be read, as where there is nothing."""
    _regular(path, path.stat())  # to open a pipe would hang
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _torn_bytes(path, file, os.fstat(file).st_size)
    finally:
        os.close(file)


def _regular(path: Path, status: os.stat_result) -> os.stat_result:
    """Raises ConfigError."""
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path} is no regular file; name another with --history")
    return status


def _torn_bytes(path: Path, file: int, size_bytes: int) -> int:
    """How much of a last line a crash left at the end. Raises ConfigError where the last lines
    are none of ours."""
    tail = os.pread(file, TAIL_BYTES, max(0, size_bytes - TAIL_BYTES))
    *whole, torn = tail.split(b"\n")
    is_ours = torn.startswith(_LINE_START) or _LINE_START.startswith(torn)
    if not is_ours or (whole and not whole[-1].startswith(_LINE_START)):
        raise ConfigError(f"{path} is no history; name another file with --history")
    return len(torn)


def _line(final: Final, now: datetime) -> str:
    """``time`` is when the final came; all else is as clients get it, in seconds of the stream's
    clock."""
    words = [
        {
            "word": word.word,
            "start": round(word.start_seconds, 3),
            "end": round(word.end_seconds, 3),
            "confidence": round(word.confidence, 4),
        }
        for word in final.words
    ]
    fields = {
        "time": now.isoformat(timespec="milliseconds"),
        "text": final.text,
        "start": round(final.start_seconds, 3),
        "end": round(final.end_seconds, 3),
        "confidence": round(final.confidence, 4),
        "end_reason": final.end_reason,
        "words": words,
    }
    return json.dumps(fields, ensure_ascii=False)
