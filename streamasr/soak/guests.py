"""Who is connected while the daemon soaks: one viewer all the time, others for a moment."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from streamasr.client import Client, Connected, Lost
from streamasr.events import Final

VISIT_SECONDS = 60.0
_UPGRADE = (
    "GET /v1 HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@dataclass(slots=True)
class Viewer:
    """The one that stays: every final of the daemon's input, and how often it was cut off."""

    finals: list[Final] = field(default_factory=list)
    losses: int = 0
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def watch(self, client: Client) -> None:
        """Until cancelled."""
        async for event in client:
            match event:
                case Final():
                    async with self.news:
                        self.finals.append(event)
                        self.news.notify_all()
                case Lost():
                    self.losses += 1

    async def seen(self, finals: int) -> None:
        """Return once so many have come, or after ``VISIT_SECONDS``."""
        async with self.news:
            with suppress(TimeoutError):
                async with asyncio.timeout(VISIT_SECONDS):
                    await self.news.wait_for(lambda: len(self.finals) >= finals)


async def look_in(url: str) -> None:
    """A viewer that comes and goes. Raises AddressError."""
    async with Client(url) as client:
        async for event in client:
            if isinstance(event, Connected):
                return


async def hang_up(url: str) -> None:
    """A viewer that vanishes without a word: its session is kept for a while. Raises OSError,
    EOFError."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(_UPGRADE.format(address.netloc).encode())
        await reader.readuntil(b'"hello"')
    finally:
        writer.transport.abort()


async def speak(url: str, pcm: bytes) -> tuple[str, ...]:
    """A speaker, who leaves after the last final: the texts. Raises AddressError."""
    async with Client(url, config={}) as client:
        await client.send(pcm)
        await client.close()
        return tuple([event.text async for event in client if isinstance(event, Final)])
