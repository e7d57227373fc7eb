"""The client after a loss: nothing is missed, and nothing is said or shown twice."""

import asyncio
import random

import pytest

from streamasr.client import Client, Connected, Lost, connection
from streamasr.client.client import UNACKNOWLEDGED_BYTES
from streamasr.client.incoming import WAITING_EVENTS, Incoming
from streamasr.errors import StreamFinished
from streamasr.events import Final
from streamasr.wire.native_reader import Finalized, ServerError, Status
from tests.scripted_server import Peer, final, partial, read_until, scripted, texts

# ---- A viewer. ------------------------------------------------------------------------------


async def test_a_viewer_resumes_and_sees_everything_once() -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        if peer.visit == 1:
            await peer.event(final("one"))
            await peer.event(final("two", 1))
            peer.cut()
            return
        assert await peer.receive() == {"type": "resume", "resume_token": "token1", "after_seq": 4}
        peer.seq = 100
        await peer.event(final("three", 0))  # of this connection's own session: comes below
        peer.session, peer.seq = "session1", 3
        await peer.event(final("two", 1))
        await peer.event(final("three", 2))
        await peer.say("resumed", received=0)
        await peer.event(final("four", 3))

    async with scripted(play) as url, Client(url) as client:
        events = await read_until(client, Lost)
        events += await read_until(client, Connected)
        while len(texts(events)) < 4:
            events.append(await anext(client))
    assert texts(events) == ["one", "two", "three", "four"]
    assert [event.utterance for event in events if isinstance(event, Final)] == [0, 1, 2, 3]
    assert [event for event in events if isinstance(event, Connected | Lost)] == [
        Connected("session1", audio_seconds=0.0),
        Lost("the daemon is gone"),
        Connected("session1", resumed=True),
    ]


async def test_a_viewer_goes_on_with_a_daemon_that_was_started_again() -> None:
    async def play(peer: Peer) -> None:
        await peer.say(
            "hello", protocol=1, model="m", languages=[], sample_rate=1, resume_token="t"
        )
        await peer.status(audio_seconds=peer.visit)
        if peer.visit == 1:
            await peer.event(final("before"))
            await peer.connection.close(1001)
            return
        await peer.event(final("early"))
        assert await peer.receive() == {"type": "resume", "resume_token": "t", "after_seq": 3}
        await peer.error("unknown_session", fatal=False)
        await peer.event(final("late"))

    async with scripted(play) as url, Client(url) as client:
        events = await read_until(client, Lost)
        events += await read_until(client, Connected)
        assert events[-1] == Connected("session2", audio_seconds=2.0)
        while len(texts(events)) < 3:
            events.append(await anext(client))
    assert texts(events) == ["before", "early", "late"]


async def test_a_server_that_cannot_resume_is_not_asked() -> None:
    async def play(peer: Peer) -> None:
        await peer.say(
            "hello", protocol=1, model="m", languages=[], sample_rate=1, resume_token=None
        )
        await peer.say("status", microphone="ok", lag_ms=0, dropped_ms=0)
        if peer.visit == 1:
            assert [await peer.receive() for _ in range(2)] == [{"type": "config"}, b"a" * 4]
            peer.cut()
        else:
            assert [await peer.receive() for _ in range(2)] == [{"type": "config"}, b"b" * 4]
            await peer.event(final("heard"))

    async with scripted(play) as url, Client(url, config={}) as client:
        await client.send(b"a" * 4)
        await read_until(client, Lost)
        await client.send(b"b" * 4)
        assert texts(await read_until(client, Final)) == ["heard"]


def test_what_waits_is_replaced_by_what_says_more() -> None:
    incoming = Incoming(lambda: None)
    for event in (
        Status("ok", 0, 0),
        partial("play"),
        partial("play kind"),
        final("play kind of blue"),
        partial("now", 1),
        Status("ok", 1, 0),
        partial("now what", 1),
        Lost("gone"),
    ):
        incoming.put(event)
    left = []
    while incoming.has_next():
        left.append(incoming.take())
    assert left == [final("play kind of blue"), Lost("gone"), Status("ok", 1, 0)]
    incoming.put(partial("and"))
    incoming.put(Status("lost", 0, 0))
    assert [incoming.take(), incoming.take()] == [Status("lost", 0, 0), partial("and")]


def test_what_waits_is_bounded() -> None:
    told = []
    incoming = Incoming(lambda: told.append(incoming.has_next()))
    while incoming.has_room():
        incoming.put(final("again"))
    assert len(told) == WAITING_EVENTS
    incoming.take()
    assert len(told) == WAITING_EVENTS + 1
    assert incoming.has_room()


async def test_a_server_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "QUIET_SECONDS", 0.1)
    monkeypatch.setattr(connection, "PONG_SECONDS", 0.3)
    silent: list[Peer] = []

    async def play(peer: Peer) -> None:
        await peer.greet()
        if peer.visit == 1:
            silent.append(peer)
            peer.connection.transport.pause_reading()
            return
        assert (await peer.receive())["type"] == "resume"
        silent[0].connection.transport.resume_reading()
        await silent[0].connection.wait_closed()
        assert silent[0].connection.close_code == 1006, "a close frame ends the session"
        await peer.error("unknown_session", fatal=False)

    async with scripted(play, ping_interval=None) as url, Client(url) as client:
        await read_until(client, Lost)
        await read_until(client, Connected)
        with pytest.raises(TimeoutError):  # its pongs come: half a second is no reason
            async with asyncio.timeout(0.5):
                await read_until(client, Lost)


# ---- A speaker. -----------------------------------------------------------------------------


async def test_a_speaker_is_heard_and_closes() -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        await peer.event(final("of the daemon's microphone"))
        await peer.status(audio_seconds=5.0)
        assert await peer.receive() == {"type": "config", "sample_rate": 8_000}
        assert await peer.receive() == b"\1\2"
        await peer.event(partial("hey"))
        assert await peer.receive() == {"type": "finalize"}
        await peer.event(final("hey there"))
        await peer.say("finalized")
        assert await peer.receive() == {"type": "keepalive"}
        await peer.error("bad_audio", fatal=False)
        assert await peer.receive() == {"type": "close"}
        await peer.connection.close()

    async with scripted(play) as url, Client(url, config={"sample_rate": 8_000}) as client:
        events = []
        while not events or not isinstance(events[-1], Status) or not events[-1].audio_seconds:
            events.append(await anext(client))
        await client.send(bytearray(b"\1\2"))
        await client.finalize()
        await client.keepalive()
        await client.close()
        await client.close()
        events += [event async for event in client]
        assert [event async for event in client] == []
        with pytest.raises(StreamFinished):
            await client.send(b"\1\2")
    assert texts(events) == ["hey there"]
    assert Finalized() in events
    assert ServerError("bad_audio", "this is bad_audio", False) in events


async def test_what_was_not_acted_on_is_sent_again() -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        if peer.visit == 1:
            assert await peer.receive() == {"type": "config"}
            for expected in (b"00", b"11", b"22"):
                assert await peer.receive() == expected
            await peer.status(received=2)
            peer.cut()
            return
        assert (await peer.receive())["type"] == "resume"
        peer.session, peer.seq = "session1", 3
        await peer.say("resumed", received=3)
        assert await peer.receive() == b"22"
        assert await peer.receive() == b"33"
        await peer.event(final("all"))

    async with scripted(play) as url, Client(url, config={}) as client:
        for packet in (b"00", b"11", b"22"):
            await client.send(packet)
        await read_until(client, Lost)
        await client.send(b"33")
        assert texts(await read_until(client, Final)) == ["all"]


async def test_a_new_session_gets_the_config_and_what_is_left() -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        if peer.visit == 1:
            assert await peer.receive() == {"type": "config", "words": False}
            for expected in (b"00", b"11", b"22"):
                assert await peer.receive() == expected
            await peer.status(received=2)
            peer.cut()
            return
        assert (await peer.receive())["type"] == "resume"
        await peer.event(final("of the daemon's microphone"))
        await peer.error("unknown_session", fatal=False)
        if peer.visit == 2:
            assert await peer.receive() == {"type": "config", "words": False}
            assert await peer.receive() == b"11"
            peer.cut()  # nothing was acknowledged: all of it comes again
            return
        for expected in ({"type": "config", "words": False}, b"11", b"22", {"type": "close"}):
            assert await peer.receive() == expected
        await peer.event(final("the rest"))
        await peer.connection.close()

    async with scripted(play) as url, Client(url, config={"words": False}) as client:
        for packet in (b"00", b"11", b"22"):
            await client.send(packet)
        await client.close()
        events = [event async for event in client]
    assert texts(events) == ["the rest"]
    assert [e.session for e in events if isinstance(e, Connected)] == [
        "session1",
        "session2",
        "session3",
    ]


async def test_a_close_whose_answer_is_lost_is_sent_again() -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        if peer.visit == 1:
            assert await peer.receive() == b"00"
            assert await peer.receive() == {"type": "close"}
            await peer.status(received=2)
            peer.cut()
            return
        assert (await peer.receive())["type"] == "resume"
        await peer.error("unknown_session", fatal=False)
        assert await peer.receive() == {"type": "close"}
        await peer.connection.close()

    async with scripted(play) as url, Client(url) as client:
        await client.send(b"00")
        await client.close()
        assert [event for event in [e async for e in client] if isinstance(event, Lost)]


async def test_unacknowledged_audio_is_bounded() -> None:
    audio = bytes(UNACKNOWLEDGED_BYTES)
    all_came, acknowledge = asyncio.Event(), asyncio.Event()

    async def play(peer: Peer) -> None:
        await peer.greet()
        received_bytes = 0
        while received_bytes < len(audio):
            received_bytes += len(await peer.receive())
        all_came.set()
        await acknowledge.wait()
        await peer.status(received=1)
        assert await peer.receive() == b"more"

    async with scripted(play) as url, Client(url) as client:
        await client.send(audio)
        sending = asyncio.create_task(client.send(b"more"))
        await all_came.wait()
        assert not sending.done()
        acknowledge.set()
        await sending


async def test_a_server_that_reads_late_gets_answers_to_its_pings() -> None:
    """It reads 1.3 MB a second. Kernels would take all 6 MB at once, and a pong behind them."""
    audio = bytes(96 << 16)

    async def play(peer: Peer) -> None:
        await peer.greet()
        begin = asyncio.get_running_loop().time()
        for number in range(96):
            await asyncio.sleep(begin + 0.05 * number - asyncio.get_running_loop().time())
            await peer.receive()
        assert await peer.receive() == {"type": "close"}
        await peer.connection.close()

    options = {"ping_interval": 0.5, "ping_timeout": 1.5, "max_queue": 1}
    async with scripted(play, **options) as url, Client(url) as client:
        await client.send(audio)
        await client.close()
        assert not [event async for event in client if isinstance(event, Lost)]


class ResumingServer:
    """Acts on every packet once, says a final for each, and cuts the line at random."""

    def __init__(self, seed: int, packets: int, cuts: int) -> None:
        chance = random.Random(seed)
        self.cuts = sorted(chance.sample(range(packets), cuts))
        self.chance = chance
        self.acted_on: list[bytes] = []
        self.said: list[tuple[str, dict]] = []

    async def play(self, peer: Peer) -> None:
        await peer.greet("token")
        message = await peer.receive()
        if peer.visit > 1:
            assert isinstance(message, dict)
            after_seq = message["after_seq"]
            peer.session, peer.seq = "session1", after_seq
            for message_type, fields in self.said[after_seq - 2 :]:
                await peer.say(message_type, **fields)
            self.said.append(("resumed", {"received": 1 + len(self.acted_on)}))
            await peer.say(*self.said[-1][:1], **self.said[-1][1])
            message = await peer.receive()
        else:
            assert message == {"type": "config"}
            message = await peer.receive()
        while isinstance(message, bytes):
            self.acted_on.append(message)
            self.said.append(
                (
                    "final",
                    {
                        "utterance": len(self.acted_on),
                        "text": message.hex(),
                        "start": 0,
                        "end": 1,
                        "words": [],
                        "confidence": 1,
                        "alternatives": [],
                        "end_reason": "length",
                    },
                )
            )
            is_cut = bool(self.cuts) and len(self.acted_on) > self.cuts[0]
            if not is_cut or self.chance.random() < 0.5:  # the rest is said after the cut
                await peer.say(self.said[-1][0], **self.said[-1][1])
            if is_cut:
                del self.cuts[0]
                peer.cut()
                return
            message = await peer.receive()
        assert message == {"type": "close"}
        await peer.connection.close()


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_is_lost_and_nothing_comes_twice(seed: int) -> None:
    packets = [number.to_bytes(2, "big") for number in range(300)]
    server = ResumingServer(seed, len(packets), cuts=2)
    async with (
        scripted(server.play) as url,
        Client(url, config={}) as client,
        asyncio.TaskGroup() as tasks,
    ):

        async def speak() -> None:
            for packet in packets:
                await client.send(packet)
            await client.close()

        tasks.create_task(speak())
        events = [event async for event in client]
    assert server.acted_on == packets
    assert texts(events) == [packet.hex() for packet in packets]
    assert sum(isinstance(event, Lost) for event in events) == 2
