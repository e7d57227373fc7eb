"""The real program spoken to as Vosk's own clients speak: send, recv, send, recv."""

import asyncio
import json

import numpy as np
import soxr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.running_daemon import Program, program

PACKET_SECONDS = 0.2


async def ask(client: ClientConnection, message: bytes | str) -> dict:
    await client.send(message)
    return json.loads(await client.recv())


async def say(client: ClientConnection, pcm: bytes, rate_hz: int) -> list[dict]:
    """One reply to each packet of 0.2 s, as the test client of Vosk does it."""
    packet_bytes = int(2 * rate_hz * PACKET_SECONDS)
    return [
        await ask(client, pcm[first : first + packet_bytes])
        for first in range(0, len(pcm), packet_bytes)
    ]


def texts(replies: list[dict]) -> list[str]:
    return [reply["text"] for reply in replies if reply.get("text")]


def at_8_khz(pcm: bytes) -> bytes:
    samples = np.frombuffer(pcm, dtype="<i2")
    return soxr.resample(samples, 16_000, 8_000).astype("<i2").tobytes()


def url(daemon: Program) -> str:
    return daemon.url.removesuffix("/v1") + "/vosk"


async def test_send_recv_send_recv(demo_pcm: bytes) -> None:
    """Two utterances with a reset between them, the default rate, a port of Vosk's own."""
    async with program("--input", "none", "--vosk-port", "0") as daemon:
        own_port = await daemon.line("vosk: ")
        async with connect(own_port + "any/path") as client:
            speech = at_8_khz(demo_pcm)
            replies = await say(client, speech, 8_000)
            assert {"partial": ""} in replies
            assert any(reply.get("partial") for reply in replies)
            assert all(len(reply) == 1 or set(reply) == {"result", "text"} for reply in replies)
            replies.append(await ask(client, '{"reset" : 1}'))
            first = " ".join(texts(replies))
            assert first
            result = next(reply["result"] for reply in replies if "result" in reply)
            assert set(result[0]) == {"conf", "end", "start", "word"}
            assert 0 <= result[0]["start"] < result[0]["end"] <= 6
            second = await say(client, speech, 8_000)
            await client.send('{"eof" : 1}')
            rest = await everything(client)
            assert len(rest) == 1
            assert client.close_code == 1000
            said = [reply for reply in (*second, *rest) if reply.get("text")]
            assert " ".join(reply["text"] for reply in said) == first
            assert said[0]["result"][0]["start"] > 6


async def everything(client: ClientConnection) -> list[dict]:
    messages = []
    while True:
        try:
            messages.append(json.loads(await client.recv()))
        except ConnectionClosed:
            return messages


async def test_config_has_no_reply_and_acts_before_the_audio_only(demo_pcm: bytes) -> None:
    listed = ["good morning", "the kettle is on", "[unk]"]
    async with program("--input", "none") as daemon, connect(url(daemon)) as client:
        config = {"sample_rate": 16_000.0, "phrase_list": listed, "words": False, "model": "tiny"}
        await client.send(json.dumps({"config": config}))
        replies = await say(client, demo_pcm, 16_000)
        await client.send(json.dumps({"config": {"sample_rate": 8_000}}))
        replies.append(await ask(client, '{"eof":1}'))
        words = set(" ".join(texts(replies)).split())
        assert words
        assert words <= {*" ".join(listed).split()}
        assert all("result" not in reply for reply in replies)


async def test_alternatives(demo_pcm: bytes) -> None:
    async with program("--input", "none") as daemon, connect(url(daemon)) as client:
        config = {"sample_rate": 16_000, "max_alternatives": 3}
        await client.send(json.dumps({"config": config}))
        replies = await say(client, demo_pcm, 16_000)
        replies.append(await ask(client, '{"eof":1}'))
        readings = next(
            reply["alternatives"]
            for reply in replies
            if reply.get("alternatives", [{}])[0].get("text")
        )
        assert 1 < len(readings) <= 3
        for reading in readings:
            assert [word["word"] for word in reading["result"]] == reading["text"].split()
        confidences = [reading["confidence"] for reading in readings]
        assert confidences == sorted(confidences, reverse=True)


async def test_nothing_heard_is_an_empty_text() -> None:
    async with program("--input", "none") as daemon, connect(url(daemon)) as client:
        assert await ask(client, '{"reset": 1}') == {"text": ""}
        assert await ask(client, b"") == {"partial": ""}
        assert await ask(client, bytes(3_200)) == {"partial": ""}
        assert await ask(client, '{ "eof":1 }') == {"text": ""}


MISTAKES: tuple[tuple[str | bytes, str], ...] = (
    ('{"config": {"sample_rate": -1}}', "bad_value"),
    ('{"config": {"sample_rate": 1e12}}', "bad_value"),
    ('{"config": {"phrase_list": ["ドラマ"]}}', "bad_phrases"),
    ("eof", "bad_json"),
    ('{"end": 1}', "bad_message"),
    (bytes((1 << 20) + 2), "message_too_big"),
)


async def test_mistakes_end_with_what_was_heard_and_a_code(demo_pcm: bytes) -> None:
    async with program("--input", "none") as daemon:
        for message, code in MISTAKES:
            async with connect(url(daemon)) as client:
                is_config = isinstance(message, str) and "config" in message
                if not is_config:
                    await say(client, at_8_khz(demo_pcm[:96_000]), 8_000)
                await client.send(message)
                (last,) = await everything(client)
                assert last["error"]["code"] == code
                assert is_config or last["text"]
                assert client.close_code == (1009 if code == "message_too_big" else 1008)
                assert client.close_reason == code


async def test_a_stop_says_what_was_heard(demo_pcm: bytes) -> None:
    async with program("--input", "none") as daemon, connect(url(daemon)) as client:
        await say(client, at_8_khz(demo_pcm[:96_000]), 8_000)
        stopping = asyncio.create_task(daemon.stop())
        (last,) = await everything(client)
        assert last["text"]
        assert client.close_code == 1001
        assert await stopping < 2.0
