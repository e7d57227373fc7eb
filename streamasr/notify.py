"""What the service manager is told: systemd's sd_notify protocol.

systemd names a datagram socket in ``$NOTIFY_SOCKET``; a message is lines ``NAME=value``
(sd_notify(3)). Where the variable is missing nobody is told and nothing happens.
"""

import asyncio
import logging
import os
import socket
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

SEND_SECONDS = 1.0
BEAT_SECONDS = 10.0
"""How often the state is looked at where no watchdog says how often."""
SHORTEST_STALL_SECONDS = 2.0
SECOND_LOOK_SECONDS = 0.5
"""A thread that has nothing to do shows life once a second."""

log = logging.getLogger(__name__)


class Notifier:
    """Tells the service manager. Never raises: a manager that does not answer is logged once."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        # Kept open: where no file descriptor is left it must still say that all is well.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._address else None
        if self._socket is not None:
            self._socket.settimeout(SEND_SECONDS)
            weakref.finalize(self, self._socket.close)
        self._has_failed = False
        self._is_stopping = False
        self.watchdog_seconds = _watchdog_seconds(environment) if self._address else None
        """How often ``watchdog`` must be called, at the least; None: never."""

    @property
    def is_heard(self) -> bool:
        """Whether there is somebody to tell."""
        return bool(self._address)

    def ready(self, status: str) -> None:
        """The start, or a reload, is over."""
        self._send("READY=1", f"STATUS={status}")

    def status(self, text: str) -> None:
        """A line for people, shown by ``systemctl status``."""
        self._send(f"STATUS={text}")

    def reloading(self) -> None:
        """The configuration is read anew; ``ready`` must follow."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end has begun, and nobody is told anything after that."""
        self._send("STOPPING=1", "STATUS=stopping")
        self._is_stopping = True

    def watchdog(self) -> None:
        """All is well."""
        self._send("WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """A start, reload or stop takes at least ``seconds`` longer."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def _send(self, *lines: str) -> None:
        if self._socket is None or self._is_stopping:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._has_failed:
                log.warning("systemd cannot be told %s: %s", lines[0], error)
            self._has_failed = True


class Heartbeat:
    """Tells the service manager, again and again, how the daemon is; on its event loop.

    ``status`` says it for people. ``stalled_seconds`` is for how long the slowest of the threads
    that recognise has shown no life: where that is too long, no sign of life is sent, and the
    manager ends the daemon and starts it anew. As long as it is not ready and ``may_wait`` the
    manager is asked for patience.
    """

    def __init__(
        self,
        notifier: Notifier,
        status: Callable[[], str],
        stalled_seconds: Callable[[], float],
        *,
        may_wait: bool = False,
    ) -> None:
        self._notifier = notifier
        self._status = status
        self._stalled_seconds = stalled_seconds
        self._may_wait = may_wait
        self._is_ready = False
        self._told = ""
        self._interval_seconds = (notifier.watchdog_seconds or 2 * BEAT_SECONDS) / 2

    def ready(self) -> bool:
        """The daemon does its work. Only the first call counts; whether it was that."""
        if self._is_ready:
            return False
        self._is_ready = True
        self._told = self._status()
        self._notifier.ready(self._told)
        return True

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """The settings are read anew meanwhile."""
        if self._is_ready:
            self._notifier.reloading()
        try:
            yield
        finally:
            if self._is_ready:
                self._told = self._status()
                self._notifier.ready(self._told)

    async def run(self) -> None:
        """Until cancelled."""
        while self._notifier.is_heard:
            self.tell()
            if not self._is_ready and self._may_wait:
                self._notifier.extend(4 * self._interval_seconds)
            if self._notifier.watchdog_seconds is not None:
                await self._show_life()
            await asyncio.sleep(self._interval_seconds)

    def tell(self) -> None:
        """The state has changed."""
        status = self._status()
        if status != self._told:
            self._told = status
            self._notifier.status(status)

    async def _show_life(self) -> None:
        if self._has_stalled():
            # Perhaps the whole program was stopped, and has had no time yet to show any.
            await asyncio.sleep(SECOND_LOOK_SECONDS)
        if self._has_stalled():
            log.error("recognition has stalled: systemd is sent no sign of life")
        else:
            self._notifier.watchdog()

    def _has_stalled(self) -> bool:
        return self._stalled_seconds() >= max(self._interval_seconds, SHORTEST_STALL_SECONDS)


def _address(name: str) -> str:
    """A path, or a name beginning with ``@`` for Linux' abstract sockets; empty for neither."""
    if name.startswith("/"):
        return name
    if name.startswith("@"):
        return "\0" + name[1:]
    if name:
        log.warning("systemd cannot be told anything: $NOTIFY_SOCKET is %r", name)
    return ""


def _watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """$WATCHDOG_USEC, where it is meant for this process."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environment.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) else None
