"""What the machine has left: memory, open files, a place for the history."""

import resource
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from streamasr.config import Config
from streamasr.doctor.finding import UNEXPECTED, Finding, ok, problem, refused, warning
from streamasr.doctor.running import health
from streamasr.doctor.writable import why_not_writable
from streamasr.errors import ConfigError
from streamasr.history import check_history_file

MEMORY_INFO = Path("/proc/meminfo")
NEEDED_BYTES = 450 << 20
COMFORTABLE_BYTES = 900 << 20
OWN_FILES = 64


def check_machine(config: Config) -> Iterator[Finding]:
    """Memory and open files."""
    yield _check_memory(config)
    yield _check_open_files(config)


def _check_memory(config: Config) -> Finding:
    available_bytes = _available_bytes()
    if available_bytes is None:
        return ok("memory", "cannot be told here")
    text = f"{available_bytes >> 20} MB are free"
    mend = "stop other programs: ps --sort -rss -eo rss,pid,comm | head"
    if available_bytes < NEEDED_BYTES and health(config.serve) is None:
        text += f"; the daemon needs {NEEDED_BYTES >> 20}"
        return problem("memory", text, mend, UNEXPECTED)
    if available_bytes < COMFORTABLE_BYTES:
        return warning("memory", f"{text}, which is little", mend)
    return ok("memory", text)


def _available_bytes() -> int | None:
    try:
        lines = MEMORY_INFO.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return None


def _check_open_files(config: Config) -> Finding:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = config.serve.max_connections + config.serve.max_half_open + OWN_FILES
    if most == resource.RLIM_INFINITY or most >= needed:
        return ok("open files", "no limit" if most == resource.RLIM_INFINITY else f"up to {most}")
    text = f"{most} are allowed, and so many clients need {needed}"
    mend = f"ulimit -Hn {needed}, or LimitNOFILE={needed} in the unit, or fewer max_connections"
    return warning("open files", text, mend)


def check_history(config: Config) -> Iterator[Finding]:
    """Whether the history can be written, where one is kept."""
    path = config.history.file
    if path is None:
        return
    try:
        with suppress(OSError):  # told below
            check_history_file(path)
    except ConfigError as error:
        yield refused("history", error)
        return
    reason = why_not_writable(path)
    if reason is None:
        yield ok("history", f"{path} can be written")
    else:
        mend = f"sudo install -d -o $USER {shlex.quote(str(path.parent))}"
        yield problem("history", f"{path}: {reason}", mend, ConfigError.exit_code)
