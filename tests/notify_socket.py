"""The other end of sd_notify: hears what the daemon tells systemd."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LIMIT_SECONDS = 60
MESSAGE_BYTES = 4096


class NotifySocket:
    """Messages in order; ``environment`` makes a program send them."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)
        self.environment = {"NOTIFY_SOCKET": address}

    async def receive(self) -> str:
        """The next message."""
        async with asyncio.timeout(LIMIT_SECONDS):
            loop = asyncio.get_running_loop()
            return (await loop.sock_recv(self._socket, MESSAGE_BYTES)).decode()

    async def receive_until(self, line: str) -> list[str]:
        """Everything up to the first message that has a line beginning so."""
        messages = [await self.receive()]
        while not any(part.startswith(line) for part in messages[-1].splitlines()):
            messages.append(await self.receive())
        return messages

    def unread(self) -> list[str]:
        """What came meanwhile."""
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(MESSAGE_BYTES).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@contextmanager
def notify_socket(folder: Path) -> Iterator[NotifySocket]:
    """A socket in ``folder``."""
    listener = NotifySocket(str(folder / "notify"))
    try:
        yield listener
    finally:
        listener.close()
