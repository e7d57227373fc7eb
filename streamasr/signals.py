"""SIGHUP and SIGUSR1, from the program's first moment to its last.

SIGUSR1 shows what every thread is doing, then some figures. The stacks are written by a handler in
C, so that they come also where Python is stuck; the figures need the event loop.

SIGHUP means two things: to a service that its configuration has changed, and to a program on a
terminal that the terminal has gone. Which one it is, is seen by looking at the terminal.
"""

import asyncio
import faulthandler
import os
import signal
import stat
from collections.abc import Callable
from types import FrameType
from typing import BinaryIO


class Signals:
    """What has been asked for while the program starts is done when it runs."""

    def __init__(self, output: BinaryIO) -> None:
        """``output`` gets the stacks, and those of a crash, too; it must stay open. What it does
        not take at once is lost."""
        self._output = output = _never_waiting(output)
        self._terminals = [number for number in (0, 1, 2) if os.isatty(number)]
        self._must_reload = False
        faulthandler.enable(output)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        faulthandler.register(signal.SIGUSR1, output)
        signal.signal(signal.SIGHUP, self._hang_up_early)

    def attach(
        self, reload: Callable[[], None], stop: Callable[[], None], figures: Callable[[], str]
    ) -> None:
        """From now on signals are heard on the event loop that runs. ``figures`` follow the
        stacks."""

        def hang_up() -> None:
            stop() if self._has_lost_terminal() else reload()

        def show() -> None:
            self._output.write(f"streamasr: {figures()}\n".encode())

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, hang_up)
        faulthandler.unregister(signal.SIGUSR1)
        loop.add_signal_handler(signal.SIGUSR1, show)
        faulthandler.register(signal.SIGUSR1, self._output, chain=True)
        if self._must_reload:
            reload()

    def _hang_up_early(self, _number: int, _frame: FrameType | None) -> None:
        if self._has_lost_terminal():
            os._exit(0)  # nothing was heard yet
        self._must_reload = True

    def _has_lost_terminal(self) -> bool:
        """After a hangup a terminal is none any more."""
        return any(not os.isatty(number) for number in self._terminals)


def _never_waiting(file: BinaryIO) -> BinaryIO:
    """The same pipe or terminal, opened once more, so that nobody else's writing changes: what it
    cannot take at once is lost. A file and the journal always take it."""
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISFIFO(mode) and not file.isatty():
        return file
    try:
        again = os.open(f"/dev/fd/{file.fileno()}", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:  # somebody else's terminal
        return file
    return os.fdopen(again, "wb", buffering=0)
