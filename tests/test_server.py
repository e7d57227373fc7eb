"""The server over real sockets, with the recognizer that is shipped."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.request import Request, urlopen

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from streamasr.config import ServeConfig
from streamasr.engine import Engine
from streamasr.errors import AddressError
from streamasr.events import Final
from streamasr.serve.doors import bind, open_doors
from streamasr.serve.peer import MicrophoneStatus
from streamasr.serve.server import Server
from streamasr.serve.status import Metrics

LIMIT_SECONDS = 30


@dataclass
class Running:
    server: Server
    engine: Engine
    port: int

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1"


@asynccontextmanager
async def running(recognizer, config: ServeConfig | None = None) -> AsyncIterator[Running]:
    config = config or ServeConfig(port=0)
    doors = open_doors(config)
    metrics = Metrics(recognizer.model_name)
    backlog_seconds = config.max_backlog_seconds
    engine = Engine(recognizer, max_backlog_seconds=backlog_seconds, observe=metrics.observe)
    engine.start()
    status = MicrophoneStatus("ok", 0, 0)
    server = Server(engine, config, metrics, lambda: status)
    await server.start(doors)
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            yield Running(server, engine, doors.main.getsockname()[1])
    finally:
        await server.drain(1.0)
        engine.close()


@pytest.fixture
async def daemon(recognizer) -> AsyncIterator[Running]:
    async with running(recognizer) as started:
        yield started


@asynccontextmanager
async def peer(url: str, **options) -> AsyncIterator[ClientConnection]:
    """A client that has read its hello and the first status."""
    async with connect(url, compression=None, **options) as client:
        assert (await receive(client))["type"] == "hello"
        assert (await receive(client))["type"] == "status"
        yield client


async def receive(client: ClientConnection) -> dict:
    return json.loads(await client.recv())


async def receive_until(client: ClientConnection, message_type: str) -> list[dict]:
    messages = [await receive(client)]
    while messages[-1]["type"] != message_type:
        messages.append(await receive(client))
    return messages


async def receive_rest(client: ClientConnection) -> tuple[list[dict], int]:
    """Everything until the close, and the close code."""
    messages = []
    while True:
        try:
            messages.append(await receive(client))
        except ConnectionClosed:
            assert client.close_code is not None
            return messages, client.close_code


async def send_json(client: ClientConnection, **message) -> None:
    await client.send(json.dumps(message))


def finals_of(messages: list[dict]) -> list[dict]:
    return [message for message in messages if message["type"] == "final"]


def finals(messages: list[dict]) -> str:
    return " ".join(message["text"] for message in finals_of(messages))


async def recognise(url: str, pcm: bytes, packet_bytes: int, **config) -> list[dict]:
    """Send everything, close, and return what came."""
    async with peer(url) as client:
        if config:
            await send_json(client, type="config", **config)
        receiving = asyncio.create_task(receive_rest(client))
        for first in range(0, len(pcm), packet_bytes):
            await client.send(pcm[first : first + packet_bytes])
        await send_json(client, type="close")
        messages, close_code = await receiving
        assert close_code == 1000
        return messages


async def test_hello_comes_first_and_seq_grows_by_one(daemon: Running, demo_pcm: bytes) -> None:
    async with connect(daemon.url) as client:
        hello = await receive(client)
        assert (hello["type"], hello["protocol"], hello["sample_rate"]) == ("hello", 1, 16_000)
        assert hello["languages"] == ["en"]
        receiving = asyncio.create_task(receive_rest(client))
        await client.send(demo_pcm)
        await send_json(client, type="close")
        messages, _ = await receiving
    assert [message["seq"] for message in messages] == list(range(2, len(messages) + 2))
    assert {message["session"] for message in messages} == {hello["session"]}


async def test_a_speaker_gets_partials_and_a_final_before_the_close(
    daemon: Running, demo_pcm: bytes
) -> None:
    messages = await recognise(daemon.url, demo_pcm, 640)
    types = [message["type"] for message in messages]
    assert "partial" in types
    assert types[-1] == "final"
    assert finals(messages)
    assert messages[-1]["words"]


async def test_finals_do_not_depend_on_the_packets(daemon: Running, demo_pcm: bytes) -> None:
    whole = await recognise(daemon.url, demo_pcm, 500_000)
    odd = await recognise(daemon.url, demo_pcm, 641)
    assert finals(whole)
    strip = ("session", "seq")
    for one, other in zip(
        (m for m in whole if m["type"] == "final"),
        (m for m in odd if m["type"] == "final"),
        strict=True,
    ):
        assert {k: v for k, v in one.items() if k not in strip} == {
            k: v for k, v in other.items() if k not in strip
        }


async def test_speakers_do_not_hear_each_other(daemon: Running, demo_pcm: bytes) -> None:
    async with peer(daemon.url) as viewer:
        both = await asyncio.gather(
            recognise(daemon.url, demo_pcm, 3_200), recognise(daemon.url, demo_pcm, 6_400)
        )
        assert finals(both[0]) == finals(both[1]) != ""
        await send_json(viewer, type="close")
        messages, _ = await receive_rest(viewer)
        assert messages == []


async def test_finalize_is_answered_and_the_stream_stays_open(
    daemon: Running, demo_pcm: bytes
) -> None:
    async with peer(daemon.url) as client:
        await client.send(demo_pcm)
        await send_json(client, type="finalize")
        first = await receive_until(client, "finalized")
        assert finals(first)
        await client.send(bytes(3_200))
        await send_json(client, type="finalize")
        assert finals(await receive_until(client, "finalized")) == ""
        await client.send(demo_pcm)
        await send_json(client, type="close")
        second, close_code = await receive_rest(client)
        assert finals(second)
        assert close_code == 1000


async def test_words_can_be_left_out(daemon: Running, demo_pcm: bytes) -> None:
    messages = await recognise(daemon.url, demo_pcm, 3_200, words=False)
    assert all("words" not in message for message in messages if message["type"] == "partial")
    assert all(message["words"] == [] for message in messages if message["type"] == "final")
    assert finals(messages)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "bad_json"),
        ("x" * 1_000_000, "bad_json"),
        ('{"type": "config", "samplerate": 8000}', "unknown_key"),
        ('{"type": "config", "sample_rate": 7}', "bad_value"),
        ('{"type": "config", "hotwords": [{"phrase": "ドラマ"}]}', "bad_phrases"),
        ('{"type": "config", "phrases": ["[unk]"]}', "bad_phrases"),
        ('{"type": "finalize"}', "no_audio"),
    ],
)
async def test_a_bad_message_gets_a_coded_error_and_the_connection_lives(
    daemon: Running, message: str, code: str, demo_pcm: bytes
) -> None:
    async with peer(daemon.url) as client:
        await client.send(message)
        error = await receive(client)
        assert (error["type"], error["code"], error["fatal"]) == ("error", code, False)
        await client.send(demo_pcm)
        await send_json(client, type="close")
        messages, close_code = await receive_rest(client)
        assert finals(messages)
        assert close_code == 1000


async def test_config_after_audio_is_refused(daemon: Running) -> None:
    async with peer(daemon.url) as client:
        await client.send(bytes(640))
        await send_json(client, type="config", sample_rate=8_000)
        assert (await receive(client))["code"] == "config_after_audio"


async def test_a_megabyte_of_garbage_is_legal_audio(daemon: Running, demo_pcm: bytes) -> None:
    garbage = bytes(range(256)) * 3_906
    async with peer(daemon.url) as client:
        await client.send(garbage)
        await send_json(client, type="close")
        _, close_code = await receive_rest(client)
        assert close_code == 1000
    assert finals(await recognise(daemon.url, demo_pcm, 3_200))


async def test_float_garbage_is_a_coded_error(daemon: Running) -> None:
    async with peer(daemon.url) as client:
        await send_json(client, type="config", encoding="pcm_f32le")
        await client.send(b"\xff" * 4_000)
        messages = await receive_until(client, "error")
        assert messages[-1]["code"] == "bad_audio"


async def test_a_message_above_the_limit_ends_with_a_code_and_a_final(
    daemon: Running, demo_pcm: bytes
) -> None:
    async with peer(daemon.url) as client:
        await client.send(demo_pcm)
        await client.send(bytes((1 << 20) + 2))
        messages, close_code = await receive_rest(client)
        assert finals(messages)
        assert messages[-1]["code"] == "message_too_big"
        assert close_code == 1009
    assert finals(await recognise(daemon.url, demo_pcm, 3_200))


async def test_a_message_far_above_the_limit_closes_only_its_sender(
    daemon: Running, demo_pcm: bytes
) -> None:
    # Not `async with`: closing a client whose transport was reset raises in websockets 17.4.
    client = await connect(daemon.url, compression=None)
    sending = asyncio.create_task(client.send(bytes(4 << 20)))
    _, close_code = await receive_rest(client)
    await asyncio.wait((sending,))
    assert sending.exception() is None or isinstance(sending.exception(), ConnectionClosed)
    assert close_code in (1009, 1006)  # 1006 where the reset overtakes the close frame
    assert finals(await recognise(daemon.url, demo_pcm, 3_200))


async def test_a_fast_sender_is_slowed_down_and_loses_nothing(recognizer, demo_pcm: bytes) -> None:
    config = ServeConfig(port=0, max_backlog_seconds=0.5)
    async with running(recognizer, config) as tight, running(recognizer) as roomy:
        through_tight = await recognise(tight.url, demo_pcm, 100_000)
        through_roomy = await recognise(roomy.url, demo_pcm, 100_000)
        assert finals(through_tight) == finals(through_roomy) != ""


async def test_connections_beyond_the_limit_are_refused_with_a_code(recognizer) -> None:
    config = ServeConfig(port=0, max_connections=1)
    async with running(recognizer, config) as daemon, peer(daemon.url):
        async with connect(daemon.url) as second:
            messages, close_code = await receive_rest(second)
        assert [message["type"] for message in messages] == ["hello", "error"]
        assert messages[1]["code"] == "too_many_connections"
        assert close_code == 1013


async def test_draining_sends_the_pending_final(recognizer, demo_pcm: bytes) -> None:
    async with running(recognizer) as daemon, peer(daemon.url) as client:
        await client.send(demo_pcm[:64_000])
        await receive_until(client, "speech_started")
        await daemon.server.drain(5.0)
        messages, close_code = await receive_rest(client)
        assert finals(messages)
        assert close_code == 1001


async def test_viewers_hear_what_is_published(daemon: Running, demo_pcm: bytes) -> None:
    async with peer(daemon.url) as first, peer(daemon.url) as second:
        stream = daemon.engine.open(daemon.server.publish, pytest.fail)
        stream.feed(np.frombuffer(demo_pcm, dtype="<i2").astype(np.float32) / 32768)
        await asyncio.wrap_future(stream.finish())
        for viewer in (first, second):
            await send_json(viewer, type="close")
            messages, _ = await receive_rest(viewer)
            assert finals(messages)


async def test_a_viewer_that_does_not_read_is_closed_and_hinders_nobody(recognizer) -> None:
    config = ServeConfig(port=0, viewer_queue_finals=8)
    long_text = "word " * 20_000
    count = 100

    def final(number: int) -> Final:
        return Final(number, long_text, 0.0, 1.0, (), 0.9, (), "silence")

    async with running(recognizer, config) as daemon, peer(daemon.url) as reader:
        stuck = await connect(daemon.url, compression=None, max_queue=1)
        for number in range(count):
            daemon.server.publish([final(number)])
            assert (await receive(reader))["utterance"] == number
        while json.loads((await fetch(daemon.port, "/healthz"))[2])["viewers"] > 1:
            pass
        messages, close_code = await receive_rest(stuck)
        assert len(finals_of(messages)) < count
        assert close_code in (1006, 1008)  # 1006 where even the close frame found no room


async def test_a_speaker_that_vanishes_is_forgotten(daemon: Running, demo_pcm: bytes) -> None:
    client = await connect(daemon.url, compression=None)
    await client.send(demo_pcm)
    await receive_until(client, "speech_started")
    client.transport.abort()
    while json.loads((await fetch(daemon.port, "/healthz"))[2])["speakers"] > 0:
        pass
    assert finals(await recognise(daemon.url, demo_pcm, 3_200))


async def test_a_flood_of_mistakes_is_answered_one_by_one(daemon: Running) -> None:
    async with peer(daemon.url) as client:
        receiving = asyncio.create_task(receive_rest(client))
        for _ in range(2_000):
            await client.send("{")
        await send_json(client, type="close")
        messages, close_code = await receiving
        assert [message["code"] for message in messages] == ["bad_json"] * 2_000
        assert close_code == 1000


async def test_a_flood_of_finalizes_is_answered_one_by_one(daemon: Running) -> None:
    async with peer(daemon.url) as client:
        receiving = asyncio.create_task(receive_rest(client))
        await client.send(bytes(640))
        for _ in range(2_000):
            await send_json(client, type="finalize")
        await send_json(client, type="close")
        messages, close_code = await receiving
        assert [message["type"] for message in messages] == ["finalized"] * 2_000
        assert close_code == 1000


async def test_peers_that_speak_no_http_leave_no_trace(
    daemon: Running, caplog: pytest.LogCaptureFixture
) -> None:
    for greeting in (b"", b"\x16\x03\x01 hello TLS\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
        writer.write(greeting)
        writer.write_eof()
        await reader.read()
        writer.close()
    assert (await fetch(daemon.port, "/healthz"))[0] == 200
    assert caplog.records == []


async def test_status_comes_as_a_heartbeat(recognizer) -> None:
    config = ServeConfig(port=0, status_interval_seconds=0.05)
    async with running(recognizer, config) as daemon, peer(daemon.url) as viewer:
        for _ in range(2):
            status = await receive(viewer)
            assert (status["type"], status["microphone"]) == ("status", "ok")
            assert {"lag_ms", "dropped_ms"} <= status.keys()


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
async def test_pages_from_elsewhere_are_refused(daemon: Running, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        async with connect(daemon.url, origin=origin):
            pass
    assert refusal.value.response.status_code == 403


async def test_a_rebound_name_is_refused(daemon: Running) -> None:
    name = f"evil.example:{daemon.port}"
    with pytest.raises(InvalidStatus) as refusal:
        async with connect(f"ws://{name}/v1", origin=f"http://{name}", host="127.0.0.1"):
            pass
    assert refusal.value.response.status_code == 403


async def test_the_captions_page_may_connect(daemon: Running) -> None:
    async with connect(daemon.url, origin=f"http://127.0.0.1:{daemon.port}") as client:
        assert (await receive(client))["type"] == "hello"


async def fetch(port: int, path: str) -> tuple[int, str, str]:
    def get() -> tuple[int, str, str]:
        request = Request(f"http://127.0.0.1:{port}{path}")
        with urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()

    return await asyncio.to_thread(get)


async def test_health_and_captions_page(daemon: Running) -> None:
    status, kind, body = await fetch(daemon.port, "/healthz")
    assert (status, kind, json.loads(body)["status"]) == (200, "application/json", "ok")
    status, kind, body = await fetch(daemon.port, "/")
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert "aria-live" in body


async def test_unknown_paths_are_not_found(daemon: Running) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        async with connect(f"ws://127.0.0.1:{daemon.port}/v2"):
            pass
    assert refusal.value.response.status_code == 404


def test_a_taken_port_is_an_address_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressError, match=str(port)) as refusal:
            bind("127.0.0.1", port)
        assert refusal.value.exit_code == 5
        assert "--port" in str(refusal.value)


async def test_a_phrase_list_is_all_that_a_speaker_is_heard_to_say(
    daemon: Running, demo_pcm: bytes
) -> None:
    listed = ["good morning", "the kettle is on", "buy a boat"]
    messages = await recognise(daemon.url, demo_pcm[:160_000], 3_200, phrases=listed)
    words = {word for phrase in listed for word in phrase.split()}
    assert "good morning" in finals(messages)
    for message in messages:
        if message["type"] in ("partial", "final"):
            assert set(message["text"].split()) <= words


async def test_hot_words_are_one_speakers_own(daemon: Running, demo_pcm: bytes) -> None:
    """A made-up name that sounds like what is said is heard by who asked for it, and whole."""
    speech = demo_pcm[:320_000]
    without = await recognise(daemon.url, speech, 3_200)
    hot = [{"phrase": "gudd mornyng", "weight": 20}]
    heard = await recognise(daemon.url, speech, 3_200, hotwords=hot)
    assert "gudd mornyng" in finals(heard)
    assert finals(await recognise(daemon.url, speech, 3_200)) == finals(without)
    assert finals_of(heard)[0]["endpoint_rule"] == "silence_after_words"


async def test_a_defect_of_ours_is_told_as_such(
    daemon: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(daemon.engine.recognizer, "search_for", fail)
    async with peer(daemon.url) as client:
        await send_json(client, type="config", phrases=["one"])
        messages, close_code = await receive_rest(client)
        assert [message["code"] for message in messages] == ["internal"]
        assert close_code == 1011
    assert "a defect" in caplog.text
