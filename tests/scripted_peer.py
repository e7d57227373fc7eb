"""The captions page beside a daemon that says exactly what a test wants, at the time it wants."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from itertools import count

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from streamasr.serve.page import page_and_policy
from tests.running_daemon import LIMIT_SECONDS

SPEECH = {"start": 0.0, "end": 1.0, "utterance": 0}


@asynccontextmanager
async def page_against(
    script: Callable[[ServerConnection], Awaitable[None]],
) -> AsyncIterator[str]:
    """Serves the captions page under its policy; ``script`` answers on ``/v1``."""

    page, policy = page_and_policy()

    def answer(connection: ServerConnection, request: Request) -> Response | None:
        if request.path == "/v1":
            return None
        response = connection.respond(HTTPStatus.OK, page)
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "text/html; charset=utf-8"
        response.headers["Content-Security-Policy"] = policy
        return response

    async with (
        asyncio.timeout(LIMIT_SECONDS),
        serve(script, "127.0.0.1", 0, process_request=answer, close_timeout=1) as server,
    ):
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


class Voice:
    """Sends numbered messages of one session."""

    def __init__(self, connection: ServerConnection, session: str, first_seq: int = 0) -> None:
        self._connection = connection
        self._session = session
        self._seq = count(first_seq)

    async def say(self, message_type: str, **fields: object) -> None:
        head = {"type": message_type, "session": self._session, "seq": next(self._seq)}
        await self._connection.send(json.dumps(head | fields))

    async def hello(self, resume_token: str | None = None, **fields: object) -> None:
        await self.say("hello", protocol=1, resume_token=resume_token, **fields)

    async def status(self, microphone: str = "ok", **fields: object) -> None:
        await self.say("status", microphone=microphone, lag_ms=0, dropped_ms=0, **fields)

    async def partial(self, stable_text: str, rest: str) -> None:
        await self.say("partial", text=stable_text + rest, stable_text=stable_text, **SPEECH)

    async def final(self, text: str, **fields: object) -> None:
        await self.say("final", text=text, **SPEECH | fields)


async def greet(connection: ServerConnection) -> None:
    voice = Voice(connection, "only")
    await voice.hello()
    await voice.status()
    await connection.wait_closed()
