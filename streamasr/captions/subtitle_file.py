"""A subtitle file that grows while somebody speaks, and is whole at every moment."""

import fcntl
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from streamasr.captions.subtitles import VTT_HEADER, SubtitleFormat, SubtitleText
from streamasr.errors import ConfigError, StreamasrError
from streamasr.events import Final

_CLOCK = r"(\d{2,}):([0-5]\d):([0-5]\d)[,.](\d{3})"
_TIMES = re.compile(rf"{_CLOCK} --> {_CLOCK}(\s|$)")


class SubtitleFile:
    """Appends cues, each with one write. A file with cues is continued: numbers and times go on
    after its last one.

    Raises ConfigError where the file cannot be opened, is something else or is written to by
    another program.
    """

    def __init__(self, path: Path, format: SubtitleFormat) -> None:  # noqa: A002
        self._path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise ConfigError(f"cannot write subtitles to {path}: {error.strerror}") from None
        try:
            self._text, self._before = self._open(format)
        except BaseException:
            self.close()
            raise
        self._begin_seconds = self._text.end_seconds

    def append(self, finals: Iterable[Final], shift_seconds: float) -> None:
        """Add what was said, ``shift_seconds`` later than its own clock says since captions first
        connected. Raises StreamasrError where the disk takes no more; the file stays whole."""
        for block in self._text.blocks(finals, self._begin_seconds + shift_seconds):
            self._write(self._before + block)
            self._before = ""

    def close(self) -> None:
        """Nothing more will be appended."""
        os.close(self._file)

    def _open(self, format: SubtitleFormat) -> tuple[SubtitleText, str]:  # noqa: A002
        """What the file says already, and what must come before the next block."""
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise ConfigError(f"{self._path} is no file that can be continued; name another")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another program writes to {self._path}; name another") from None
        except OSError:
            pass  # a file system without locks
        with open(self._file, "rb", closefd=False) as file:
            content = file.read()
        if not content:
            if format == "vtt":
                self._write(VTT_HEADER)
            return SubtitleText(format), ""
        try:
            text = content.decode("utf-8-sig").replace("\r\n", "\n")
            return _read(text, format), "" if text.endswith("\n\n") else "\n\n"
        except ValueError as error:
            raise ConfigError(
                f"{self._path} is not {format.upper()} that can be continued ({error}): "
                "mend its end or name another file"
            ) from None

    def _write(self, text: str) -> None:
        """All or nothing. Without a buffer, so that whoever is killed has lost nothing."""
        data = text.encode(errors="replace")
        size_bytes = os.fstat(self._file).st_size
        try:
            written_bytes = os.write(self._file, data)
            reason = "the disk is full"
        except OSError as error:
            written_bytes, reason = 0, str(error.strerror)
        if written_bytes < len(data):
            os.ftruncate(self._file, size_bytes)
            raise StreamasrError(f"cannot write subtitles to {self._path}: {reason}")


def _read(text: str, format: SubtitleFormat) -> SubtitleText:  # noqa: A002
    """Where a file's numbers and times stand. Raises ValueError saying what is wrong."""
    blocks = [block.split("\n") for block in re.split(r"\n{2,}", text.strip("\n"))]
    result = SubtitleText(format)
    if format == "vtt":
        if not re.match(r"WEBVTT(\s|$)", text):
            raise ValueError("it does not begin with WEBVTT")
        blocks = [b for b in blocks[1:] if not re.match(r"(NOTE|STYLE|REGION)(\s|$)", b[0])]
    for lines in blocks:
        if format == "srt" or "-->" not in lines[0]:
            name = lines.pop(0)
            if format == "srt":
                if not re.fullmatch(r"\d{1,9}", name):
                    raise ValueError(f"{name[:40]!r} is not the number of a cue")
                result.number = max(result.number, int(name))
        times = _TIMES.match(lines[0]) if len(lines) > 1 else None
        if times is None:
            raise ValueError(f"{' '.join(lines)[:40]!r} is not a cue")
        hours, minutes, seconds, milliseconds = map(int, times.groups()[4:8])
        end_seconds = 3600 * hours + 60 * minutes + seconds + milliseconds / 1000
        result.end_seconds = max(result.end_seconds, end_seconds)
    return result
