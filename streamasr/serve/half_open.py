"""Connections that have not said yet what they want are few, whoever opens them.

A client that connects and then sends nothing, or its request a byte at a time, would hold a
socket until a time limit; ten thousand of them would hold all that the process may have. Where
more than a limit are half open, the one that waits longest is dropped: an honest client is
done in milliseconds, so it is never that one.
"""

import asyncio
from typing import Any

from websockets.asyncio.server import ServerConnection

UNREAD_BYTES = 4 << 20


class HalfOpen:
    """The connections that are half open, oldest first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[asyncio.BaseTransport, None] = {}

    def websocket(self, *arguments: Any, **options: Any) -> ServerConnection:
        """A connection as websockets makes it, half open from its first packet."""
        return _Watched(self, *arguments, **options)

    def add(self, transport: asyncio.BaseTransport) -> None:
        """It has connected. Drops the oldest where they are too many."""
        self._waiting[transport] = None
        if len(self._waiting) > self._limit:
            self._drop(next(iter(self._waiting)))

    def remove(self, transport: asyncio.BaseTransport) -> None:
        """It was let in, or it has gone."""
        self._waiting.pop(transport, None)

    def drop_all(self) -> None:
        """Wait for nobody any more."""
        for transport in tuple(self._waiting):
            self._drop(transport)

    def _drop(self, transport: asyncio.BaseTransport) -> None:
        self.remove(transport)
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


class _Watched(ServerConnection):
    def __init__(self, half_open: HalfOpen, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._half_open = half_open

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._half_open.add(transport)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # What we say waits until it is read, but for the answers to pings: a flood of them by a
        # client that does not read would fill the memory.
        if self.transport.get_write_buffer_size() > UNREAD_BYTES:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._half_open.remove(self.transport)
        super().connection_lost(exc)
