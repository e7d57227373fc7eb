"""A websocket server that says what a test tells it to, in the native protocol."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from websockets.asyncio.server import ServerConnection, serve

from streamasr.client import Client, ClientEvent
from streamasr.events import Final, Partial, SpeechStarted
from streamasr.wire.native import Encoder

LIMIT_SECONDS = 30


class Peer:
    """One connection as the server sees it. Says messages of ``session``, numbered."""

    def __init__(self, connection: ServerConnection, visit: int) -> None:
        self.connection = connection
        self.visit = visit
        """Counts connections from 1."""
        self.session = f"session{visit}"
        self.seq = 0

    async def say(self, message_type: str, **fields: object) -> None:
        self.seq += 1
        head = {"type": message_type, "session": self.session, "seq": self.seq}
        await self.connection.send(json.dumps(head | fields))

    async def greet(self, resume_token: str | None = None) -> None:
        """Hello and the first status."""
        token = resume_token or f"token{self.visit}"
        await self.say(
            "hello", protocol=1, model="m", languages=["en"], sample_rate=16_000, resume_token=token
        )
        await self.status()

    async def status(self, received: int = 0, audio_seconds: float = 0.0) -> None:
        await self.say(
            "status",
            microphone="ok",
            lag_ms=0,
            dropped_ms=0,
            audio_seconds=audio_seconds,
            received=received,
        )

    async def event(self, event: SpeechStarted | Partial | Final) -> None:
        fields = json.loads(Encoder("").encode_event(event))
        for name in ("session", "seq"):
            del fields[name]
        await self.say(fields.pop("type"), **fields)

    async def error(self, code: str, *, fatal: bool, close_code: int = 1008) -> None:
        await self.say("error", code=code, message=f"this is {code}", fatal=fatal)
        if fatal:
            await self.connection.close(close_code, code)

    async def receive(self) -> dict | bytes:
        message = await self.connection.recv()
        return message if isinstance(message, bytes) else json.loads(message)

    def cut(self) -> None:
        """As a lost network does: without a close frame."""
        self.connection.transport.abort()


@asynccontextmanager
async def scripted(play: Callable[[Peer], Awaitable[None]], **options) -> AsyncIterator[str]:
    """A server that plays this with every visitor; its address. Failures of the script are
    raised in the end."""
    failures: list[Exception] = []
    visits = 0

    async def handle(connection: ServerConnection) -> None:
        nonlocal visits
        visits += 1
        try:
            await play(Peer(connection, visits))
            await connection.wait_closed()
        except AssertionError as failure:
            failures.append(failure)
            connection.transport.abort()

    async with serve(handle, "127.0.0.1", 0, **options) as server:
        port = server.sockets[0].getsockname()[1]
        scheme = "wss" if options.get("ssl") else "ws"
        async with asyncio.timeout(LIMIT_SECONDS):
            yield f"{scheme}://127.0.0.1:{port}/v1"
    for failure in failures:
        raise failure


def partial(text: str, utterance: int = 0) -> Partial:
    return Partial(utterance, text, "", 0.0, 1.0, ())


def final(text: str, utterance: int = 0, start: float = 0.0, end: float = 1.0) -> Final:
    return Final(utterance, text, start, end, (), 0.9, (), "silence")


async def read_until(client: Client, kind: type[ClientEvent]) -> list[ClientEvent]:
    """Everything up to the first event of a kind."""
    events = []
    async for event in client:
        events.append(event)
        if isinstance(event, kind):
            return events
    raise AssertionError(f"the iteration ended after {events}")


def texts(events: list[ClientEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, Final)]
