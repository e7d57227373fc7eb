"""A cut connection is taken up again: nothing said is lost, nothing is said twice."""

import asyncio
import json
import random
from collections.abc import AsyncIterator

import numpy as np
import numpy.typing as npt
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from streamasr.client import Client, Connected
from streamasr.config import ServeConfig
from streamasr.events import Final
from tests.cutting_proxy import cutting_proxy
from tests.running_daemon import program
from tests.test_server import (
    Running,
    finals_of,
    peer,
    receive,
    receive_rest,
    receive_until,
    recognise,
    running,
    send_json,
)


@pytest.fixture
async def daemon(recognizer) -> AsyncIterator[Running]:
    async with running(recognizer, ServeConfig(port=0, status_interval_seconds=0.2)) as started:
        yield started


class Speaker:
    """The least that a resuming client needs: what it sent, and what it saw."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.sent: list[bytes | str] = []
        self.received: list[dict] = []
        self.token = ""
        self.session = ""
        self.connection: ClientConnection

    async def open(self) -> None:
        self.connection = await connect(self.url, compression=None)
        hello = await receive(self.connection)
        self.token, self.session = hello["resume_token"], hello["session"]
        self.received.append(hello)

    async def send(self, message: bytes | str) -> None:
        self.sent.append(message)
        await self.connection.send(message)

    async def cut_and_resume(self) -> None:
        """Tear the connection down, and say again what did not arrive."""
        self.connection.transport.abort()
        await self.collect()
        self.connection = await connect(self.url, compression=None)
        assert (await receive(self.connection))["type"] == "hello"
        after_seq = self.received[-1]["seq"]
        await send_json(
            self.connection, type="resume", resume_token=self.token, after_seq=after_seq
        )
        while True:
            message = await receive(self.connection)
            if message["session"] == self.session:
                self.received.append(message)
                if message["type"] == "resumed":
                    break
        for missed in self.sent[message["received"] :]:
            await self.connection.send(missed)

    async def collect(self) -> None:
        """Take in everything until the connection ends."""
        while True:
            try:
                self.received.append(await receive(self.connection))
            except ConnectionClosed:
                return


def told(messages: list[dict]) -> list[dict]:
    """The finals, without what numbers the messages."""
    return [
        {key: value for key, value in final.items() if key not in ("session", "seq")}
        for final in finals_of(messages)
    ]


async def test_a_speaker_that_is_cut_again_and_again_misses_nothing(
    daemon: Running, demo_pcm: bytes
) -> None:
    uncut = await recognise(daemon.url, demo_pcm, 3_200)
    rng = random.Random(7)
    speaker = Speaker(daemon.url)
    await speaker.open()
    packets = [demo_pcm[first : first + 3_200] for first in range(0, len(demo_pcm), 3_200)]
    cuts = set(rng.sample(range(len(packets)), 10))
    for number, packet in enumerate(packets):
        await speaker.send(packet)
        if number in cuts:
            await speaker.cut_and_resume()
    await speaker.send(json.dumps({"type": "close"}))
    await speaker.collect()
    assert speaker.connection.close_code == 1000
    assert told(speaker.received) == told(uncut) != []
    seqs = [message["seq"] for message in speaker.received]
    assert seqs == sorted(set(seqs))


async def test_fifty_cuts_at_random_change_no_final(demo: npt.NDArray[np.float32]) -> None:
    """The real program, the real client, and a network between them that breaks whenever it
    likes: while audio is sent, while finals come, after the end."""
    pcm = (demo * 32767).astype("<i2").tobytes()
    async with program("--input", "none") as daemon:
        uncut, _ = await speak_through(daemon.url, pcm)
        rng = random.Random(3)
        lives = [rng.randint(1, 30_000) for _ in range(50)]
        async with cutting_proxy(daemon.url, lives) as (proxy, url):
            heard, sessions = await speak_through(url, pcm)
            assert proxy.connections > 50
    assert heard == uncut != []
    assert sessions == 1


async def speak_through(url: str, pcm: bytes) -> tuple[list[Final], int]:
    """The finals of a recording, and the number of sessions that they took."""
    finals, sessions = [], set()
    async with Client(url, config={}, slowest_retry_seconds=0.05) as client:
        speaking = asyncio.create_task(speak(client, pcm))
        async for event in client:
            if isinstance(event, Final):
                finals.append(event)
            elif isinstance(event, Connected):
                sessions.add(event.session)
        await speaking
    return finals, len(sessions)


async def speak(client: Client, pcm: bytes) -> None:
    for first in range(0, len(pcm), 3_200):
        await client.send(pcm[first : first + 3_200])
    await client.close()


async def test_finalize_is_carried_out_once(daemon: Running, demo_pcm: bytes) -> None:
    speaker = Speaker(daemon.url)
    await speaker.open()
    for _ in range(3):
        await speaker.send(demo_pcm[:96_000])
        await speaker.send(json.dumps({"type": "finalize"}))
        await speaker.cut_and_resume()
    await speaker.send(json.dumps({"type": "close"}))
    await speaker.collect()
    finalized = [message for message in speaker.received if message["type"] == "finalized"]
    assert len(finalized) == 3
    assert len(told(speaker.received)) >= 3


async def test_a_viewer_gets_what_was_said_while_it_was_away(
    daemon: Running, demo_pcm: bytes
) -> None:
    client = await connect(daemon.url, compression=None)
    hello = await receive(client)
    client.transport.abort()
    await client.wait_closed()
    stream = daemon.engine.open(daemon.server.publish, pytest.fail)
    stream.feed(np.frombuffer(demo_pcm, dtype="<i2").astype(np.float32) / 32768)
    await asyncio.wrap_future(stream.finish())
    async with peer(daemon.url) as again:
        await send_json(
            again, type="resume", resume_token=hello["resume_token"], after_seq=hello["seq"]
        )
        missed = await receive_until(again, "resumed")
    assert told(missed)
    assert {m["session"] for m in missed if m["type"] != "status"} == {hello["session"]}


@pytest.mark.parametrize("resume_token", ["nobody's", "", "\ud800"])
async def test_an_unknown_session_is_an_error_and_the_new_one_goes_on(
    daemon: Running, resume_token: str, demo_pcm: bytes
) -> None:
    async with peer(daemon.url) as client:
        await send_json(client, type="resume", resume_token=resume_token, after_seq=3)
        error = (await receive_until(client, "error"))[-1]
        assert (error["code"], error["fatal"]) == ("unknown_session", False)
        await client.send(demo_pcm)
        await send_json(client, type="close")
        messages, close_code = await receive_rest(client)
        assert told(messages)
        assert close_code == 1000


async def test_resume_after_audio_is_refused(daemon: Running) -> None:
    async with peer(daemon.url) as client:
        await client.send(bytes(640))
        await send_json(client, type="resume", resume_token="x", after_seq=0)
        assert (await receive_until(client, "error"))[-1]["code"] == "bad_order"


async def test_a_session_is_taken_over_from_a_connection_that_still_stands(
    daemon: Running, demo_pcm: bytes
) -> None:
    speaker = Speaker(daemon.url)
    await speaker.open()
    await speaker.send(demo_pcm)
    async with peer(daemon.url) as second:
        await send_json(second, type="resume", resume_token=speaker.token, after_seq=1)
        resumed = (await receive_until(second, "resumed"))[-1]
        assert (resumed["session"], resumed["received"]) == (speaker.session, 1)
        await speaker.collect()
        assert speaker.connection.close_code == 1008
        assert speaker.connection.close_reason == "taken_over"
        await send_json(second, type="close")
        messages, close_code = await receive_rest(second)
        assert told(messages)
        assert close_code == 1000


async def test_a_session_that_was_closed_or_left_too_long_is_gone(recognizer) -> None:
    config = ServeConfig(port=0, resume_seconds=0.0)
    async with running(recognizer, config) as daemon:
        for leave in (ClientConnection.close, abort):
            client = await connect(daemon.url, compression=None)
            hello = await receive(client)
            await leave(client)
            async with peer(daemon.url) as again:
                await send_json(
                    again, type="resume", resume_token=hello["resume_token"], after_seq=1
                )
                assert (await receive_until(again, "error"))[-1]["code"] == "unknown_session"


async def abort(client: ClientConnection) -> None:
    client.transport.abort()
    await client.wait_closed()


async def test_more_missed_than_is_kept_is_an_unknown_session(recognizer, demo_pcm: bytes) -> None:
    config = ServeConfig(port=0, viewer_queue_finals=8)
    async with running(recognizer, config) as daemon:
        speaker = Speaker(daemon.url)
        await speaker.open()
        await speaker.send(demo_pcm[:640])
        for _ in range(20):
            await speaker.send(json.dumps({"type": "finalize"}))
            await receive_until(speaker.connection, "finalized")
        await abort(speaker.connection)
        async with peer(daemon.url) as again:
            await send_json(again, type="resume", resume_token=speaker.token, after_seq=2)
            assert (await receive_until(again, "error"))[-1]["code"] == "unknown_session"


async def test_a_session_cannot_be_resumed_by_itself(recognizer) -> None:
    async with running(recognizer, ServeConfig(port=0, max_connections=1)) as daemon:
        for _ in range(3):  # the only seat becomes free each time
            async with connect(daemon.url, compression=None) as client:
                hello = await receive(client)
                token = hello["resume_token"]
                await send_json(client, type="resume", resume_token=token, after_seq=1)
                assert (await receive_until(client, "error"))[-1]["code"] == "unknown_session"


async def test_two_that_want_each_others_session_do_not_wait_for_ever(recognizer) -> None:
    config = ServeConfig(port=0, max_connections=2)
    async with running(recognizer, config) as daemon:
        async with connect(daemon.url) as one, connect(daemon.url) as other:
            await want_each_other(one, other)
        async with peer(daemon.url), peer(daemon.url):
            pass  # both seats are free again


async def want_each_other(one: ClientConnection, other: ClientConnection) -> None:
    tokens = [(await receive(client))["resume_token"] for client in (one, other)]
    for client, token in zip((one, other), reversed(tokens), strict=True):
        await send_json(client, type="resume", resume_token=token, after_seq=1)
    answers = await asyncio.gather(first_answer(one), first_answer(other))
    assert set(answers) <= {"resumed", "unknown_session", "taken_over"}


async def first_answer(client: ClientConnection) -> str:
    """What a resume led to: ``resumed``, an error's code, or the reason of a close."""
    try:
        while True:
            message = await receive(client)
            if message["type"] in ("resumed", "error"):
                return str(message.get("code", "resumed"))
    except ConnectionClosed:
        return client.close_reason or ""


async def test_resumed_is_said_once_however_often_one_tries(
    daemon: Running, demo_pcm: bytes
) -> None:
    speaker = Speaker(daemon.url)
    await speaker.open()
    await speaker.send(demo_pcm[:64_000])
    for _ in range(3):  # cut before the answer is read
        await abort(speaker.connection)
        speaker.connection = await connect(daemon.url, compression=None)
        token = speaker.token
        await send_json(speaker.connection, type="resume", resume_token=token, after_seq=1)
        while (message := await receive(speaker.connection))["session"] != speaker.session:
            pass
    while message["type"] != "resumed":
        message = await receive(speaker.connection)
    assert message["received"] == 1
    await send_json(speaker.connection, type="close")
    messages, _ = await receive_rest(speaker.connection)
    assert not [message for message in messages if message["type"] == "resumed"]
    assert told(messages)
