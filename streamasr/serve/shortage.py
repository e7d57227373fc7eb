"""Where the process may open no more files, nobody new can connect; that is said, but not for
ever.

asyncio tries again once a second and reports each of its tries, a thousand of them a time.
"""

import asyncio
import errno
import logging
import time
from typing import Any

TELL_SECONDS = 60.0
SHORT_OF = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

log = logging.getLogger(__name__)


class Shortage:
    """``handle`` is an event loop's exception handler: what asyncio would report, but connections
    that could not be accepted in one line a minute."""

    def __init__(self) -> None:
        self._told_at_seconds: float | None = None

    def handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        # A transport is not there yet: that is what tells accept() from other calls.
        if not (isinstance(error, OSError) and error.errno in SHORT_OF and "socket" in context):
            loop.default_exception_handler(context)
            return
        now_seconds = time.monotonic()
        if self._told_at_seconds is None or now_seconds - self._told_at_seconds > TELL_SECONDS:
            self._told_at_seconds = now_seconds
            log.error(
                "nobody new can connect: %s; allow more with LimitNOFILE= or ulimit -n",
                error.strerror,
            )
