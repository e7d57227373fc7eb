"""Which processes hold a device or a port, as far as this user may know; Linux's /proc."""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_LISTENING = "0A"


@dataclass(frozen=True, slots=True)
class Process:
    """A process, and what it calls itself."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


def holders_of(files: Collection[Path]) -> list[Process]:
    """Who has one of ``files`` open."""
    return _holders({str(path) for path in files})


def listeners_on(port: int) -> list[Process]:
    """Who listens on a TCP port."""
    return _holders({f"socket:[{inode}]" for inode in _listening_inodes(port)})


def is_listened_on(port: int) -> bool:
    """Whether anybody does, also where it cannot be told who."""
    return any(True for _ in _listening_inodes(port))


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        try:
            lines = (PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _holders(targets: Collection[str]) -> list[Process]:
    found: list[Process] = []
    for folder in PROC.glob("[0-9]*") if targets else ():
        if int(folder.name) != os.getpid() and any(
            target in targets for target in _open_files(folder)
        ):
            found.append(Process(int(folder.name), _name(folder)))
    return found


def _open_files(folder: Path) -> Iterator[str]:
    try:
        for descriptor in (folder / "fd").iterdir():
            yield str(descriptor.readlink())
    except OSError:  # of another user, or gone meanwhile
        return


def _name(folder: Path) -> str:
    try:
        return (folder / "comm").read_text().strip()
    except OSError:
        return "a process"
