"""The daemon's own captions, on a thread of their own.

Whoever reads them may stop reading (a pager, a terminal after Ctrl-S), may have gone, or may be a
file on a disk that is full. Recognition does not wait for any of them.
"""

import logging
import os
import queue
import sys
import threading
from contextlib import suppress

from streamasr.captions.terminal import TerminalCaptions
from streamasr.events import Event

MAX_WAITING = 1_000

log = logging.getLogger(__name__)


class CaptionsPrinter:
    """Shows what a stream said on standard output; through a file of its own, because a write
    that hangs holds a file's lock, also when the program ends."""

    def __init__(self) -> None:
        output = os.fdopen(
            os.dup(sys.stdout.fileno()), "w", encoding=sys.stdout.encoding, errors="replace"
        )
        self._captions = TerminalCaptions(output)
        self._waiting: queue.Queue[list[Event] | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._print_all, name="captions", daemon=True)
        self._thread.start()

    def show(self, events: list[Event]) -> None:
        """Soon; never, where a thousand others wait. Never waits."""
        with suppress(queue.Full):  # a reader that hangs: there is nobody to tell
            self._waiting.put_nowait(events)

    def close(self, timeout_seconds: float) -> None:
        """Show what waits, for no longer than that, and give the terminal back."""
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(timeout_seconds)

    def _print_all(self) -> None:
        is_broken = False
        while (events := self._waiting.get()) is not None:
            try:
                self._captions.show(events)
            except OSError as error:
                if not is_broken:
                    log.warning("captions cannot be shown: %s", error.strerror)
                is_broken = True
            else:
                is_broken = False
        self._captions.close()
