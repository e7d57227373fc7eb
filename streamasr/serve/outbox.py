"""What waits to be sent to one client: partials may be replaced, everything else may not.

The outbox holds a queue of messages that must arrive and one slot each for the newest
partial and the newest heartbeat. A partial that arrives while another waits takes its place;
a final clears the slot, because it says more. So whatever a slow client misses, it never
misses a final, and what waits is bounded: past ``limit`` messages ``put`` says so and the
connection ends.

The last ``limit`` messages that had to arrive are kept: a client that was cut off gets those
again that it did not see.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from streamasr.events import Event, Final, Partial, StreamEnded
from streamasr.wire.native import Encoder

Write = Callable[[], str]


class Outbox:
    """One client's waiting messages; numbered and written only as they are sent."""

    def __init__(self, encoder: Encoder, limit: int) -> None:
        self.encoder = encoder
        self.limit = limit
        self.partial_interval_seconds = 0.0
        self.replaced_partials = 0
        self._queue: deque[Write] = deque()
        self._again: deque[str] = deque()
        self._sent: deque[tuple[int, str]] = deque()
        self._forgotten_seq = 0
        self._heartbeat: Write | None = None
        self._resumed: Write | None = None
        self._partial: Partial | None = None
        self._partial_due = 0.0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def put(self, write: Write) -> bool:
        """Queue a message that must arrive; False where too many wait already."""
        if len(self._queue) >= self.limit:
            return False
        self._queue.append(write)
        self._notify()
        return True

    def put_last(self, write: Write) -> None:
        """Queue the last message of all, however many wait."""
        self._queue.append(write)
        self._notify()

    def put_event(self, event: Event) -> bool:
        """Queue one event of a stream; False where too many messages wait already."""
        if isinstance(event, StreamEnded):
            return True
        if isinstance(event, Partial):
            self.replaced_partials += self._partial is not None
            self._partial = event
            self._notify()
            return True
        if isinstance(event, Final):
            self._partial = None
        return self.put(lambda: self.encoder.encode_event(event))

    def put_heartbeat(self, write: Write) -> None:
        """Queue a message that a newer one may replace."""
        self._heartbeat = write
        self._notify()

    def clear(self) -> None:
        """Forget what waits: it is of another stream."""
        self._queue.clear()
        self._again.clear()
        self._heartbeat = None
        self._partial = None

    def send_again(self, after_seq: int) -> bool:
        """Send what had to arrive and was sent after ``after_seq`` once more, before all that
        waits; False where something of it is no longer kept."""
        if after_seq < self._forgotten_seq:
            return False
        self._again = deque(text for seq, text in self._sent if seq > after_seq)
        self._notify()
        return True

    def put_resumed(self, write: Write) -> None:
        """Say this after all that must arrive; once, however often the client tries."""
        self._resumed = write
        self._notify()

    async def idle(self) -> None:
        """Wait until everything that must arrive was sent; a waiting partial is dropped."""
        self._partial = None
        self._notify()
        await self._idle.wait()

    async def run(self, send: Callable[[str], Awaitable[None]]) -> None:
        """Send what is put, for ever; raises what ``send`` raises."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            if self._again:
                await send(self._again.popleft())
            elif self._queue:
                await send(self._keep(self._queue.popleft()()))
            elif self._resumed is not None:
                write, self._resumed = self._resumed, None
                await send(write())
            elif self._heartbeat is not None:
                write, self._heartbeat = self._heartbeat, None
                await send(write())
            elif self._partial is None:
                self._idle.set()
                await self._wake.wait()
            elif loop.time() < self._partial_due:
                await self._wake_before(self._partial_due - loop.time())
            else:
                partial, self._partial = self._partial, None
                self._partial_due = loop.time() + self.partial_interval_seconds
                await send(self.encoder.encode_event(partial))

    def _keep(self, text: str) -> str:
        self._sent.append((self.encoder.seq, text))
        if len(self._sent) > self.limit:
            self._forgotten_seq = self._sent.popleft()[0]
        return text

    async def _wake_before(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _notify(self) -> None:
        self._idle.clear()
        self._wake.set()
