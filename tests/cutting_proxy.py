"""A network that can be torn: a TCP forwarder that drops everything when it is told to."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class CuttingProxy:
    """Forwards to one server; ``cut`` resets every connection, both ways. Each connection takes
    one of ``lives``, the bytes after which it is cut, as long as there are any."""

    def __init__(self, host: str, port: int, lives: Iterable[int] = ()) -> None:
        self._target = host, port
        self._lives = iter(lives)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.server: asyncio.Server

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._start(self._join(reader, writer))

    def _start(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self.connections += 1
        ends = {writer, far_writer}
        self._writers |= ends
        life = _Life(next(self._lives, None), ends)
        await asyncio.gather(
            self._forward(reader, far_writer, life), self._forward(far_reader, writer, life)
        )
        self._writers -= ends

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, life: "_Life"
    ) -> None:
        try:
            while data := await reader.read(1 << 10):
                writer.write(data)
                await writer.drain()
                life.spend(len(data))
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def close(self) -> None:
        self.cut()
        self.server.close()
        if self._tasks:
            await asyncio.wait(self._tasks)


class _Life:
    def __init__(self, left_bytes: int | None, ends: set[asyncio.StreamWriter]) -> None:
        self._left_bytes = left_bytes
        self._ends = ends

    def spend(self, count_bytes: int) -> None:
        if self._left_bytes is None:
            return
        self._left_bytes -= count_bytes
        if self._left_bytes <= 0:
            for writer in self._ends:
                writer.transport.abort()


@asynccontextmanager
async def cutting_proxy(
    url: str, lives: Iterable[int] = ()
) -> AsyncIterator[tuple[CuttingProxy, str]]:
    """A proxy in front of the server at ``url``, and the address to use instead."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    proxy = CuttingProxy(parts.hostname, parts.port, lives)
    proxy.server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    port = proxy.server.sockets[0].getsockname()[1]
    try:
        yield proxy, parts._replace(netloc=f"127.0.0.1:{port}").geturl()
    finally:
        await proxy.close()
