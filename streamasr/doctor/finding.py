"""What a check found."""

from dataclasses import dataclass
from typing import Literal

from streamasr.errors import StreamasrError

State = Literal["ok", "warning", "problem"]

UNEXPECTED = StreamasrError.exit_code
"""Of a problem whose kind has no code of its own."""


@dataclass(frozen=True, slots=True)
class Finding:
    """``mend`` is a command to type, or what to do where there is none. ``exit_code`` is the
    one of a problem's kind (errors.py)."""

    check: str
    state: State
    text: str
    mend: str | None = None
    exit_code: int = 0


def ok(check: str, text: str) -> Finding:
    """Nothing to do."""
    return Finding(check, "ok", text)


def warning(check: str, text: str, mend: str | None = None) -> Finding:
    """The daemon works, but not as well as it could, or not for ever."""
    return Finding(check, "warning", text, mend)


def problem(check: str, text: str, mend: str | None, exit_code: int) -> Finding:
    """The daemon does not work."""
    return Finding(check, "problem", text, mend, exit_code)


def refused(
    check: str, error: StreamasrError, otherwise: str = "mend the file or setting that it names"
) -> Finding:
    """The error with which the daemon would end. What follows the last semicolon of its message
    is the mend; ``otherwise`` where there is none."""
    text, semicolon, mend = str(error).rpartition("; ")
    if not semicolon:
        text, mend = mend, otherwise
    return problem(check, text, mend, error.exit_code)
