"""Starts the real program and speaks to it."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from email.message import Message
from pathlib import Path
from typing import IO, NamedTuple
from urllib.request import urlopen

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

START_SECONDS = 60
LIMIT_SECONDS = 60
FINALIZE = '{"type": "finalize"}'


class Program:
    """A running ``streamasr serve``."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url
        self.logged = ""
        """What ``log_line`` has read of its standard error."""

    async def line(self, start: str) -> str:
        """The rest of the next line that it prints with this start."""
        assert self.process.stdout is not None
        while True:
            line = (await self.process.stdout.readline()).decode()
            assert line, f"it ended before it printed {start!r}"
            if line.startswith(start):
                return line.removeprefix(start).strip()

    async def read_rest(self) -> str:
        """Everything else that it prints, once it has ended."""
        assert self.process.stdout is not None
        return (await self.process.stdout.read()).decode()

    async def log_line(self, part: str) -> str:
        """The next line on its standard error, a pipe, that has this part."""
        assert self.process.stderr is not None
        while True:
            line = (await self.process.stderr.readline()).decode()
            self.logged += line
            assert line, f"it ended before it logged {part!r}"
            if part in line:
                return line.rstrip()

    async def read_log(self) -> str:
        """All that it wrote to its standard error, once it has ended."""
        assert self.process.stderr is not None
        self.logged += (await self.process.stderr.read()).decode()
        return self.logged

    async def stop(self) -> float:
        """SIGTERM; the seconds until it had ended."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        self.process.send_signal(signal.SIGTERM)
        await self.process.wait()
        return loop.time() - start


@asynccontextmanager
async def program(
    *arguments: str,
    port: int = 0,
    environment: Mapping[str, str] | None = None,
    stdin: int | None = None,
    stderr: int | IO[bytes] | None = None,
    module: Sequence[str] = ("streamasr",),
    limit_seconds: float = LIMIT_SECONDS,
) -> AsyncIterator[Program]:
    """``streamasr serve --port port arguments``, once it listens; ``module`` is what runs it, and
    ``limit_seconds`` how long it may be wanted."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *module,
        "serve",
        "--port",
        str(port),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL if stdin is None else stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        env=os.environ | dict(environment or {}),
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            line = (await process.stdout.readline()).decode()
        assert line.startswith(("listening on ws://127.0.0.1:", "listening on wss://127")), line
        assert line.endswith("/v1\n")
        async with asyncio.timeout(limit_seconds):
            yield Program(process, line.split()[-1])
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def receive(client: ClientConnection) -> dict:
    return json.loads(await client.recv())


async def receive_rest(client: ClientConnection) -> list[dict]:
    """Everything until the connection closes."""
    messages = []
    while True:
        try:
            messages.append(await receive(client))
        except ConnectionClosed:
            return messages


async def receive_until(client: ClientConnection, **wanted: object) -> list[dict]:
    """Everything up to the first message that has the ``wanted`` values."""
    messages = [await receive(client)]
    while not wanted.items() <= messages[-1].items():
        messages.append(await receive(client))
    return messages


async def send_in_real_time(client: ClientConnection, pcm: bytes, packet_ms: int = 20) -> None:
    """16 kHz s16le at the pace at which it would be spoken."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    packet_bytes = 32 * packet_ms
    for number, first in enumerate(range(0, len(pcm), packet_bytes)):
        await asyncio.sleep(start + number * packet_ms / 1000 - loop.time())
        await client.send(pcm[first : first + packet_bytes])


def finals(messages: list[dict]) -> list[dict]:
    return [message for message in messages if message["type"] == "final"]


async def utterances(client: ClientConnection, pcm: bytes) -> list[dict]:
    """The finals of a speaker who says this and ends the last utterance."""
    await client.send(pcm)
    await client.send(FINALIZE)
    return finals(await receive_until(client, type="finalized"))


async def said(client: ClientConnection, pcm: bytes) -> str:
    """What a speaker is told that it said."""
    return " ".join(final["text"] for final in await utterances(client, pcm))


class Answer(NamedTuple):
    text: str
    headers: Message


async def answer(daemon: Program, path: str) -> Answer:
    """What the daemon answers to a plain request."""
    address = daemon.url.replace("ws:", "http:").removesuffix("/v1") + path

    def get() -> Answer:
        with urlopen(address, timeout=LIMIT_SECONDS) as page:
            return Answer(page.read().decode(), page.headers)

    return await asyncio.to_thread(get)


def processor_seconds(daemon: Program) -> float:
    """What it has used until now."""
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
