"""The outbox: a slow peer misses partials, never a final, and is never buffered for ever."""

import asyncio
import json

import pytest

from streamasr.events import Final, Partial, SpeechStarted, StreamEnded
from streamasr.serve.outbox import Outbox
from streamasr.wire.native import Encoder

LIMIT_SECONDS = 10


def partial(utterance: int, text: str) -> Partial:
    return Partial(utterance, text, "", 0.0, 1.0, ())


def final(utterance: int, text: str) -> Final:
    return Final(utterance, text, 0.0, 1.0, (), 0.9, (), "silence")


class SlowPeer:
    """Takes one message each time ``read`` is called."""

    def __init__(self, outbox: Outbox) -> None:
        self._asked: asyncio.Queue[None] = asyncio.Queue()
        self._received: asyncio.Queue[str] = asyncio.Queue()
        self._task = asyncio.create_task(outbox.run(self._send))

    async def read(self) -> dict:
        self._asked.put_nowait(None)
        async with asyncio.timeout(LIMIT_SECONDS):
            return json.loads(await self._received.get())

    async def _send(self, text: str) -> None:
        await self._asked.get()
        self._received.put_nowait(text)

    def stop(self) -> None:
        self._task.cancel()


async def test_a_newer_partial_takes_the_place_of_an_older() -> None:
    outbox = Outbox(Encoder("s"), limit=8)
    for text in ("a", "a b", "a b c"):
        assert outbox.put_event(partial(0, text))
    peer = SlowPeer(outbox)
    assert (await peer.read())["text"] == "a b c"
    assert outbox.replaced_partials == 2
    peer.stop()


async def test_finals_are_kept_in_order_and_partials_before_them_dropped() -> None:
    outbox = Outbox(Encoder("s"), limit=8)
    for event in (
        SpeechStarted(0, 0.0),
        partial(0, "a"),
        final(0, "a"),
        SpeechStarted(1, 1.0),
        partial(1, "b"),
        final(1, "b"),
        partial(2, "c"),
        StreamEnded(3.0),
    ):
        assert outbox.put_event(event)
    peer = SlowPeer(outbox)
    messages = [await peer.read() for _ in range(5)]
    assert [(message["type"], message.get("text")) for message in messages] == [
        ("speech_started", None),
        ("final", "a"),
        ("speech_started", None),
        ("final", "b"),
        ("partial", "c"),
    ]
    assert [message["seq"] for message in messages] == [1, 2, 3, 4, 5]
    peer.stop()


async def test_past_the_limit_it_says_so() -> None:
    outbox = Outbox(Encoder("s"), limit=3)
    assert all(outbox.put_event(final(number, "x")) for number in range(3))
    assert not outbox.put_event(final(3, "x"))
    assert outbox.put_event(partial(4, "y"))


async def test_idle_waits_for_everything_that_must_arrive() -> None:
    outbox = Outbox(Encoder("s"), limit=8)
    outbox.put_event(final(0, "a"))
    outbox.put_event(partial(1, "b"))
    peer = SlowPeer(outbox)
    idle = asyncio.create_task(outbox.idle())
    await asyncio.sleep(0)  # let it begin
    assert (await peer.read())["text"] == "a"
    async with asyncio.timeout(LIMIT_SECONDS):
        await idle
    peer.stop()


async def test_idle_at_once_where_nothing_waits() -> None:
    outbox = Outbox(Encoder("s"), limit=8)
    peer = SlowPeer(outbox)
    async with asyncio.timeout(LIMIT_SECONDS):
        await outbox.idle()
    peer.stop()


async def test_partials_keep_their_interval_and_finals_do_not_wait() -> None:
    outbox = Outbox(Encoder("s"), limit=8)
    outbox.partial_interval_seconds = 3_600.0
    peer = SlowPeer(outbox)
    outbox.put_event(partial(0, "a"))
    assert (await peer.read())["text"] == "a"
    outbox.put_event(partial(0, "a b"))
    outbox.put_event(final(0, "a b c"))
    assert (await peer.read())["text"] == "a b c"
    peer.stop()


async def test_a_partial_is_sent_when_its_interval_is_over() -> None:
    outbox = Outbox(Encoder("s"), limit=8)
    outbox.partial_interval_seconds = 0.05
    peer = SlowPeer(outbox)
    for text in ("a", "a b", "a b c"):
        outbox.put_event(partial(0, text))
        assert (await peer.read())["text"] == text
    peer.stop()


async def test_what_sending_raises_is_raised() -> None:
    outbox = Outbox(Encoder("s"), limit=8)
    outbox.put_event(final(0, "a"))

    async def broken(_: str) -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(LIMIT_SECONDS):
            await outbox.run(broken)
