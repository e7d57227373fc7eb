"""What every server of the native protocol, version 1, does: DESIGN.md as a program.

    pytest tests/test_conformance.py --url ws://HOST:PORT/v1 [--token TOKEN]

tests a server that runs already; without ``--url`` it starts this one. Whoever writes a client
finds every message here as it is sent and answered; whoever writes a server can be tested.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.running_daemon import program

LIMIT_SECONDS = 60
END_REASONS = {"silence", "length", "finalize", "eof", "device_lost"}
ENDPOINT_RULES = {"silence_without_words", "silence_after_words", "length", None}
WORD = {"word", "start", "end", "confidence"}
FIELDS = {
    "hello": {"protocol", "model", "languages", "sample_rate", "resume_token"},
    "speech_started": {"utterance", "start"},
    "partial": {"utterance", "text", "stable_text", "start", "end"},  # and words
    "final": {
        *("utterance", "text", "start", "end", "words", "confidence", "alternatives"),
        *("end_reason", "endpoint_rule"),
    },
    "finalized": set(),
    "resumed": {"received"},
    "status": {"microphone", "lag_ms", "dropped_ms", "audio_seconds", "received"},
    "error": {"code", "message", "fatal"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, str | None]]:
    """Its address and token."""
    url = request.config.getoption("--url")
    if url is not None:
        yield url, request.config.getoption("--token")
        return
    async with program("--input", "none") as daemon:
        yield daemon.url, None


class Client:
    """Sends, and looks at everything that comes."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.seqs: dict[str, int] = {}
        self.stable: dict[int, str] = {}

    async def send(self, message_type: str, **fields: object) -> None:
        await self.connection.send(json.dumps({"type": message_type, **fields}))

    async def receive(self) -> dict:
        message = json.loads(await self.connection.recv())
        assert message["seq"] > self.seqs.get(message["session"], 0)
        self.seqs[message["session"]] = message["seq"]
        assert message.keys() >= FIELDS[message["type"]]
        if message["type"] in ("partial", "final"):
            self._check_text(message)
        return message

    async def until(self, message_type: str) -> list[dict]:
        messages = [await self.receive()]
        while messages[-1]["type"] != message_type:
            messages.append(await self.receive())
        return messages

    async def rest(self) -> list[dict]:
        messages = []
        while True:
            try:
                messages.append(await self.receive())
            except ConnectionClosed:
                return messages

    async def error(self) -> str:
        """The code of the next error, which must not be fatal."""
        error = (await self.until("error"))[-1]
        assert error["fatal"] is False
        assert error["message"]
        return str(error["code"])

    def _check_text(self, message: dict) -> None:
        words = message["text"].split()
        before = self.stable.get(message["utterance"], "").split()
        assert words[: len(before)] == before, "stable_text was revised"
        assert 0 <= message["start"] <= message["end"]
        for word in message.get("words", ()):
            assert word.keys() == WORD
            assert message["start"] <= word["start"] <= word["end"]
            assert 0 <= word["confidence"] <= 1
        assert [word["word"] for word in message.get("words", ())] in ([], words)
        if message["type"] == "partial":
            assert message["text"].startswith(message["stable_text"])
            self.stable[message["utterance"]] = message["stable_text"]
        else:
            assert message["text"]
            assert message["end_reason"] in END_REASONS
            assert message["endpoint_rule"] in ENDPOINT_RULES
            assert 0 <= message["confidence"] <= 1


@asynccontextmanager
async def client_of(server: tuple[str, str | None]) -> AsyncIterator[Client]:
    """A client that has been greeted."""
    url, token = server
    async with asyncio.timeout(LIMIT_SECONDS), connect(url, compression=None) as connection:
        client = Client(connection)
        if token is not None:
            await client.send("authenticate", token=token)
        hello = await client.receive()
        assert (hello["type"], hello["protocol"]) == ("hello", 1)
        assert (await client.receive())["type"] == "status"
        yield client


Server = tuple[str, str | None]


async def test_speak_and_close(server: Server, demo_pcm: bytes) -> None:
    async with client_of(server) as client:
        await client.connection.send(demo_pcm)
        await client.send("close")
        messages = await client.rest()
        types = [message["type"] for message in messages]
        assert {"speech_started", "partial", "final"} <= set(types)
        assert client.connection.close_code == 1000
        for message in messages:
            if message["type"] == "final":
                assert types.index("speech_started") < messages.index(message)


async def test_the_same_bytes_in_other_packets_say_the_same(
    server: Server, demo_pcm: bytes
) -> None:
    said = []
    for packet_bytes in (1_001, len(demo_pcm)):
        async with client_of(server) as client:
            for first in range(0, len(demo_pcm), packet_bytes):
                await client.connection.send(demo_pcm[first : first + packet_bytes])
            await client.send("close")
            finals = [message for message in await client.rest() if message["type"] == "final"]
            said.append([(final["text"], final["start"], final["end"]) for final in finals])
    assert said[0] == said[1] != []


async def test_config_is_obeyed(server: Server, demo_pcm: bytes) -> None:
    async with client_of(server) as client:
        await client.send(
            "config",
            sample_rate=16_000,
            channels=1,
            encoding="pcm_s16le",
            words=False,
            partial_interval_ms=500,
            max_alternatives=3,
            endpoint={"silence_after_words_seconds": 0.4},
            hotwords=[{"phrase": "good morning", "weight": 1}],
        )
        await client.connection.send(demo_pcm)
        await client.send("close")
        messages = await client.rest()
        assert not any("words" in message for message in messages if message["type"] == "partial")
        finals = [message for message in messages if message["type"] == "final"]
        assert finals
        for final in finals:
            assert final["words"] == []
            assert len(final["alternatives"]) <= 3


async def test_finalize_is_answered_and_the_stream_stays_open(
    server: Server, demo_pcm: bytes
) -> None:
    async with client_of(server) as client:
        await client.send("finalize")
        assert await client.error() == "no_audio"
        for _ in range(2):
            await client.connection.send(demo_pcm)
            await client.send("finalize")
            messages = await client.until("finalized")
            assert any(message["type"] == "final" for message in messages)
        await client.send("keepalive")
        await client.send("close")
        assert [m for m in await client.rest() if m["type"] != "status"] == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "bad_json"),
        ('{"type": "config", "sample_rate": NaN}', "bad_json"),
        ("[]", "bad_message"),
        ("{}", "bad_message"),
        ('{"type": "finalise"}', "unknown_type"),
        ('{"type": "close", "now": true}', "unknown_key"),
        ('{"type": "config", "samplerate": 8000}', "unknown_key"),
        ('{"type": "config", "sample_rate": 0}', "bad_value"),
        ('{"type": "config", "sample_rate": -16000}', "bad_value"),
        ('{"type": "config", "channels": 1.5}', "bad_value"),
        ('{"type": "config", "encoding": "mp3"}', "bad_value"),
        ('{"type": "config", "endpoint": {"utterance_seconds": 0}}', "bad_value"),
        ('{"type": "config", "phrases": [""]}', "bad_value"),
        ('{"type": "resume", "resume_token": "nobody", "after_seq": 1}', "unknown_session"),
        ('{"type": "resume", "resume_token": "nobody"}', "bad_value"),
    ],
)
async def test_a_mistake_gets_its_code_and_ends_nothing(
    server: Server, message: str, code: str
) -> None:
    async with client_of(server) as client:
        await client.connection.send(message)
        assert await client.error() == code
        await client.send("close")
        await client.rest()
        assert client.connection.close_code == 1000


async def test_config_after_audio_is_refused(server: Server) -> None:
    async with client_of(server) as client:
        await client.connection.send(bytes(640))
        await client.send("config", sample_rate=8_000)
        assert await client.error() == "config_after_audio"


async def test_a_cut_session_is_resumed(server: Server, demo_pcm: bytes) -> None:
    half = len(demo_pcm) // 4 * 2
    async with client_of(server) as client:
        await client.connection.send(demo_pcm)
        await client.send("close")
        whole = [m["text"] for m in await client.rest() if m["type"] == "final"]
    url, token = server
    first = Client(await connect(url, compression=None))
    if token is not None:
        await first.send("authenticate", token=token)
    hello = await first.receive()
    await first.connection.send(demo_pcm[:half])
    heard = await first.until("partial")
    first.connection.transport.abort()
    heard += await first.rest()
    async with client_of(server) as second:
        resume = {"resume_token": hello["resume_token"], "after_seq": heard[-1]["seq"]}
        await second.send("resume", **resume)
        heard += await second.until("resumed")
        assert heard[-1]["session"] == hello["session"]
        assert heard[-1]["received"] in (0, 1)
        for missed in [demo_pcm[:half], demo_pcm[half:]][heard[-1]["received"] :]:
            await second.connection.send(missed)
        await second.send("close")
        heard += await second.rest()
    assert [m["text"] for m in heard if m["type"] == "final"] == whole


async def test_a_message_that_is_too_big_ends_with_a_final_and_a_code(
    server: Server, demo_pcm: bytes
) -> None:
    async with client_of(server) as client:
        await client.connection.send(demo_pcm)
        await client.connection.send(bytes((1 << 20) + 2))
        messages = await client.rest()
        assert [message["type"] for message in messages][-2:] == ["final", "error"]
        assert (messages[-1]["code"], messages[-1]["fatal"]) == ("message_too_big", True)
        assert client.connection.close_code == 1009
        assert client.connection.close_reason == "message_too_big"
