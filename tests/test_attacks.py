"""What a stranger may try: each gets its code, takes no memory, and disturbs nobody."""

import asyncio
import base64
import json
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.running_daemon import Program, finals, program, receive, receive_rest, receive_until

GROWTH_BYTES = 64 << 20
TEXT, BINARY, CLOSE = 1, 2, 8


def resident_bytes(daemon: Program) -> int:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) << 10


def open_files(daemon: Program) -> int:
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))  # noqa: PTH208


@asynccontextmanager
async def attacked(tmp_path: Path, demo_pcm: bytes, serve: str = "") -> AsyncIterator[Program]:
    """The program after somebody has spoken; afterwards, somebody speaks again, and nothing has
    grown."""
    config = tmp_path / "streamasr.toml"
    config.write_text(f"[serve]\n{serve}\n")
    async with program("--input", "none", "--config", str(config)) as daemon:
        await speak(daemon, demo_pcm)
        before_bytes = resident_bytes(daemon)
        yield daemon
        await speak(daemon, demo_pcm)
        assert resident_bytes(daemon) - before_bytes < GROWTH_BYTES


async def speak(daemon: Program, pcm: bytes) -> None:
    async with connect(daemon.url, compression=None) as client:
        await heard(client, pcm)


async def heard(client: ClientConnection, pcm: bytes) -> None:
    await client.send(pcm)
    await client.send('{"type": "finalize"}')
    assert finals(await receive_until(client, type="finalized"))


class RawClient:
    """A websocket client that sends whatever it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, daemon: Program, *, head: str = "", path: str = "/v1") -> "RawClient":
        """Connect; ``head`` has further headers, each with its line end."""
        host, port = address(daemon)
        client = cls(*await asyncio.open_connection(host, port))
        key = base64.b64encode(bytes(16)).decode()
        client.writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            f"Sec-WebSocket-Version: 13\r\n{head}\r\n".encode()
        )
        client.response = (await client.reader.readuntil(b"\r\n\r\n")).decode()
        return client

    def send(
        self, opcode: int, data: bytes, *, length: int | None = None, bits: int = 0x80
    ) -> None:
        """One frame, masked with zeros; ``length`` is what it claims."""
        claimed = struct.pack(
            "!BBQ", bits | opcode, 0x80 | 127, len(data) if length is None else length
        )
        self.writer.write(claimed + bytes(4) + data)

    async def close_code(self) -> int:
        """What the daemon's close frame says."""
        while True:
            first, second = await self.reader.readexactly(2)
            length = second
            if second == 126:
                (length,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif second == 127:
                (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
            data = await self.reader.readexactly(length)
            if first & 15 == CLOSE:
                self.writer.close()
                return int.from_bytes(data[:2], "big")


def address(daemon: Program) -> tuple[str, int]:
    host, port = daemon.url.removeprefix("ws://").removesuffix("/v1").rsplit(":", 1)
    return host, int(port)


async def http(daemon: Program, request: str) -> str:
    """The whole answer to a plain request."""
    reader, writer = await asyncio.open_connection(*address(daemon))
    writer.write(request.encode())
    answer = (await reader.read()).decode()
    writer.close()
    return answer


async def test_pages_from_elsewhere(tmp_path: Path, demo_pcm: bytes) -> None:
    async with attacked(tmp_path, demo_pcm) as daemon:
        for head in (
            "Origin: https://evil.example\r\n",
            "Origin: null\r\n",
            "Origin: http://127.0.0.1:1\r\n",
            "Origin: http://127.0.0.1\r\nOrigin: https://evil.example\r\n",
            "User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n",
            "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: websocket\r\n",
        ):
            for path in ("/v1", "/vosk"):
                client = await RawClient.open(daemon, head=head, path=path)
                assert " 403 " in client.response.splitlines()[0]
                client.writer.close()
        rebound = "GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n"
        assert " 403 " in (await http(daemon, rebound)).splitlines()[0]


async def test_only_the_token_opens(tmp_path: Path, demo_pcm: bytes) -> None:
    token_file = tmp_path / "token"
    async with program("--input", "none", "--token-file", str(token_file)) as daemon:
        token = token_file.read_text().strip()
        assert token_file.stat().st_mode & 0o777 == 0o600
        vosk = daemon.url.removesuffix("/v1") + "/vosk"
        for wrong in (token[:-1], token + "x", "", "Bearer"):
            for url in (daemon.url, vosk):
                header = {"Authorization": f"Bearer {wrong}"}
                with pytest.raises(InvalidStatus) as refusal:
                    await connect(url, additional_headers=header)
                assert refusal.value.response.status_code == 401
            first = {"type": "authenticate", "token": wrong}
            assert await refused(daemon.url, json.dumps(first)) == "unauthorized"
            assert await refused(vosk, json.dumps({"config": {"token": wrong}})) == "unauthorized"
        for message in ("{", '{"type": "close"}', bytes(640)):
            assert await refused(daemon.url, message) == "unauthorized"
            assert await refused(vosk, message) == "unauthorized"
        assert " 401 " in (await http(daemon, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"))[:20]
        authorized = {"Authorization": f"Bearer {token}"}
        async with connect(daemon.url, additional_headers=authorized) as client:
            await heard(client, demo_pcm)
        async with connect(daemon.url) as client:
            await client.send(json.dumps({"type": "authenticate", "token": token}))
            await heard(client, demo_pcm)
        async with connect(vosk) as client:
            await client.send(json.dumps({"config": {"sample_rate": 16_000, "token": token}}))
            await client.send(demo_pcm[:64_000])
            assert "partial" in await receive(client) or "text" in await receive(client)


async def refused(url: str, first: str | bytes) -> str:
    """The code of the only message that comes back, which is also the reason of the close."""
    async with connect(url) as client:
        await client.send(first)
        (message,) = await receive_rest(client)
        assert client.close_code == 1008
        code = message.get("code") or message["error"]["code"]
        assert client.close_reason == code
        return str(code)


async def test_paths_that_climb(tmp_path: Path, demo_pcm: bytes) -> None:
    async with attacked(tmp_path, demo_pcm) as daemon:
        for path in ("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/v1/../x"):
            answer = await http(daemon, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert " 404 " in answer.splitlines()[0]
            assert "root:" not in answer
        long_line = f"GET /{'a' * 100_000} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        assert " 414 " in (await http(daemon, long_line))[:20]


async def test_a_message_of_100_megabytes(tmp_path: Path, demo_pcm: bytes) -> None:
    async with attacked(tmp_path, demo_pcm) as daemon:
        for opcode in (TEXT, BINARY):
            client = await RawClient.open(daemon)
            client.send(opcode, b"", length=100 << 20)
            assert await client.close_code() == 1009
            fragments = await RawClient.open(daemon)
            fragments.send(opcode, bytes(1 << 20), bits=0)
            fragments.send(0, bytes(1 << 20), bits=0)
            fragments.send(0, bytes(1 << 20), bits=0)
            assert await fragments.close_code() == 1009


async def test_compression_is_not_agreed_to(tmp_path: Path, demo_pcm: bytes) -> None:
    """So there is nothing that a small message could be blown up to."""
    async with attacked(tmp_path, demo_pcm) as daemon:
        offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
        client = await RawClient.open(daemon, head=offer)
        assert "permessage-deflate" not in client.response
        client.send(BINARY, bytes(1_000), bits=0x80 | 0x40)
        assert await client.close_code() == 1002


async def test_ten_thousand_half_open_connections(tmp_path: Path, demo_pcm: bytes) -> None:
    """The daemon holds 64 of them, drops the oldest, and goes on serving."""
    async with attacked(tmp_path, demo_pcm) as daemon:
        before = open_files(daemon)
        most = 0
        held: list[socket.socket] = []
        for number in range(10_000):
            half_open = socket.create_connection(address(daemon), timeout=10)
            half_open.sendall(b"GET /v1 HTTP/1.1\r\n")
            held.append(half_open)
            if len(held) > 200:
                held.pop(0).close()
            if number % 1_000 == 999:
                async with connect(daemon.url, compression=None) as honest:
                    assert (await receive(honest))["type"] == "hello"
                most = max(most, open_files(daemon) - before)
        assert most <= 64 + 8
        for half_open in held:
            half_open.close()


async def test_a_reader_that_does_not_read(tmp_path: Path, demo_pcm: bytes) -> None:
    async with attacked(tmp_path, demo_pcm) as daemon:
        client = await RawClient.open(daemon)
        for _ in range(200):
            client.send(TEXT, b"{" * 1_000)
            await client.writer.drain()
        # It never reads. Each mistake is answered, until the answers do not fit any more; from
        # then on the daemon takes in nothing, and ends the connection.
        with pytest.raises(ConnectionError):
            await send_for_ever(client)
        client.writer.close()


async def test_pings_whose_answers_nobody_reads(tmp_path: Path, demo_pcm: bytes) -> None:
    async with attacked(tmp_path, demo_pcm) as daemon:
        client = await RawClient.open(daemon)
        with pytest.raises(ConnectionError):
            await ping_for_ever(client)
        client.writer.close()


async def ping_for_ever(client: RawClient) -> None:
    while True:
        client.send(9, bytes(125))
        await client.writer.drain()


async def send_for_ever(client: RawClient) -> None:
    while True:
        client.send(TEXT, b"{" * 1_000)
        await client.writer.drain()


async def test_a_writer_that_dawdles(tmp_path: Path, demo_pcm: bytes) -> None:
    async with attacked(tmp_path, demo_pcm, "idle_seconds = 0.5") as daemon:
        reader, writer = await asyncio.open_connection(*address(daemon))
        writer.write(b"GET /v1 HTT")
        assert await reader.read() == b""  # 5 s later
        writer.close()
        async with connect(daemon.url, compression=None) as client:
            await client.send(demo_pcm[:96_000])
            messages = await receive_rest(client)
            assert finals(messages)
            assert messages[-1]["code"] == "idle"
            assert client.close_code == 1008
        async with connect(daemon.url.replace("/v1", "/vosk"), compression=None) as client:
            await client.send(demo_pcm[:96_000])
            last = (await receive_rest(client))[-1]
            assert last["error"]["code"] == "idle"
            assert client.close_code == 1008


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("[" * 500_000, "bad_json"),
        ('{"type":' * 10_000, "bad_json"),
        ('{"type": "config", "sample_rate": NaN}', "bad_json"),
        ('{"type": "config", "sample_rate": -Infinity}', "bad_json"),
        ('{"type": "config", "sample_rate": 1e999}', "bad_value"),
        ('{"type": "config", "sample_rate": -16000}', "bad_value"),
        ('{"type": "config", "sample_rate": 99999999999999999999}', "bad_value"),
        (f'{{"type": "config", "sample_rate": {"9" * 10_000}}}', "bad_json"),
        ('{"type": "config", "endpoint": {"utterance_seconds": 1e308}}', "bad_value"),
    ],
)
async def test_numbers_and_depths(recognizer, message: str, code: str) -> None:
    from tests.test_server import peer, running

    async with running(recognizer) as daemon, peer(daemon.url) as client:
        await client.send(message)
        error = await receive(client)
        assert (error["code"], error["fatal"]) == (code, False)
        await client.send('{"type": "close"}')
        assert await receive_rest(client) == []


async def test_text_that_is_not_utf_8(tmp_path: Path, demo_pcm: bytes) -> None:
    async with attacked(tmp_path, demo_pcm) as daemon:
        for path in ("/v1", "/vosk"):
            client = await RawClient.open(daemon, path=path)
            client.send(TEXT, b'{"type": "\xff\xfe"}')
            assert await client.close_code() == 1007


async def test_audio_before_the_config(tmp_path: Path, demo_pcm: bytes) -> None:
    async with attacked(tmp_path, demo_pcm) as daemon, connect(daemon.url) as client:
        await client.send(bytes(6_400))
        await client.send('{"type": "config", "sample_rate": 8000}')
        assert (await receive_until(client, type="error"))[-1]["code"] == "config_after_audio"
        await heard(client, demo_pcm)


async def test_audio_faster_than_real_time(tmp_path: Path, demo_pcm: bytes) -> None:
    """Ten minutes at once are taken in as they are recognised; another speaker gets its turn."""
    async with (
        attacked(tmp_path, demo_pcm, "max_backlog_seconds = 5") as daemon,
        connect(daemon.url, compression=None) as fast,
    ):
        sending = asyncio.create_task(send_until_closed(fast, demo_pcm))
        await receive_until(fast, type="final")
        await speak(daemon, demo_pcm)
        assert not sending.done()
        fast.transport.abort()
        await sending


async def send_until_closed(client: ClientConnection, pcm: bytes) -> None:
    try:
        for _ in range(100):
            await client.send(pcm)
    except ConnectionClosed:
        return
