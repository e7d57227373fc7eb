"""The thread between a real microphone and the engine: muted, and without a microphone at first."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from streamasr.capture.listener import Listener, Reopen, State
from streamasr.capture.microphone import Microphone
from streamasr.capture.search import MicrophoneSearch
from streamasr.config import CaptureConfig
from streamasr.engine import Engine
from streamasr.events import Event, Final, Partial
from tests.virtual_microphone import VirtualMicrophone

LIMIT_SECONDS = 20
RATE_HZ = 16_000


class News:
    """Events and states, in the order in which they came."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Event | State] = asyncio.Queue()

    def events(self, events: list[Event]) -> None:
        for event in events:
            self._queue.put_nowait(event)

    def state(self, state: State) -> None:
        self._loop.call_soon_threadsafe(self._queue.put_nowait, state)

    async def until(self, wanted: type[Event] | State) -> list[Event | State]:
        """Everything up to the next ``wanted``."""
        news: list[Event | State] = []
        async with asyncio.timeout(LIMIT_SECONDS):
            while not news or wanted not in (news[-1], type(news[-1])):
                news.append(await self._queue.get())
        return news


@asynccontextmanager
async def listening(
    recognizer,
    news: News,
    opened: Microphone | None,
    *,
    muted: bool = False,
    reopen: Reopen | None = None,
) -> AsyncIterator[Listener]:
    """A listener that hears the default device, by ``reopen`` where that is given."""
    engine = Engine(recognizer)
    engine.start()
    listener = Listener(engine.open(news.events, pytest.fail), RATE_HZ)
    if muted:
        listener.mute()
    listener.listen(opened, reopen or MicrophoneSearch(CaptureConfig(), RATE_HZ), news.state)
    try:
        yield listener
    finally:
        await asyncio.to_thread(listener.stop, LIMIT_SECONDS)
        engine.close()


def is_recorded(microphone: VirtualMicrophone) -> bool:
    return "protocol-native" in microphone.control("list", "short", "source-outputs")


async def test_a_mute_ends_the_utterance_and_closes_the_device(
    recognizer, heard: VirtualMicrophone, demo_wav: Path
) -> None:
    news = News()
    async with listening(recognizer, news, Microphone(CaptureConfig())) as listener:
        assert await news.until("ok") == ["ok"]
        heard.play(demo_wav)
        await news.until(Partial)
        assert is_recorded(heard)
        listener.mute()
        listener.mute()
        assert listener.wants_mute
        *_, final, _ = await news.until("muted")
        assert isinstance(final, Final)
        assert final.end_reason == "finalize"
        assert not is_recorded(heard)
        listener.unmute()
        assert await news.until("ok") == ["ok"]
        assert is_recorded(heard)
        heard.play(demo_wav)
        await news.until(Partial)


async def test_who_is_muted_from_the_beginning_is_not_recorded(
    recognizer, heard: VirtualMicrophone
) -> None:
    news = News()
    async with listening(recognizer, news, Microphone(CaptureConfig()), muted=True) as listener:
        assert await news.until("muted") == ["muted"]
        assert not is_recorded(heard)
        listener.unmute()
        assert await news.until("ok") == ["ok"]


async def test_a_microphone_that_is_not_there_yet_is_waited_for(
    recognizer, heard: VirtualMicrophone
) -> None:
    heard.stop()
    news = News()
    async with listening(recognizer, news, None) as listener:
        assert await news.until("lost") == ["lost"]
        listener.mute()
        assert await news.until("muted") == ["muted"]
        listener.unmute()
        assert await news.until("lost") == ["lost"]
        await asyncio.to_thread(heard.start)
        assert await news.until("recovered") == ["recovered"]


async def test_a_stop_beside_the_start_is_not_missed(recognizer) -> None:
    engine = Engine(recognizer)
    engine.start()
    interval_seconds = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for number in range(1_000):
            listener = Listener(engine.open(lambda _: None, pytest.fail), RATE_HZ)
            listener.mute()
            listener.listen(None, pytest.fail, lambda _: None)
            for _ in range(number % 60):  # a little later each time
                pass
            listener.stop(LIMIT_SECONDS)
            assert "listener" not in {thread.name for thread in threading.enumerate()}
            await asyncio.wait_for(asyncio.wrap_future(listener.ended), LIMIT_SECONDS)
    finally:
        sys.setswitchinterval(interval_seconds)
        engine.close()


async def test_muted_while_a_device_is_opened_is_told_when_it_is_closed(
    recognizer, heard: VirtualMicrophone
) -> None:
    news = News()
    opening, may_open = threading.Event(), threading.Event()

    def reopen() -> Microphone:
        opening.set()
        assert may_open.wait(LIMIT_SECONDS)
        return Microphone(CaptureConfig())

    async with listening(recognizer, news, None, muted=True, reopen=reopen) as listener:
        assert await news.until("muted") == ["muted"]
        assert listener.is_closed
        listener.unmute()
        assert await asyncio.to_thread(opening.wait, LIMIT_SECONDS)
        listener.mute()
        assert not listener.is_closed
        may_open.set()
        assert await news.until("muted") == ["muted"]
        assert listener.is_closed
        assert not is_recorded(heard)


async def test_while_a_device_is_opened_or_muted_no_sound_is_missed(
    recognizer, heard: VirtualMicrophone
) -> None:
    news = News()
    async with listening(recognizer, news, Microphone(CaptureConfig())) as listener:
        await news.until("ok")
        heard.freeze()  # from now on to close the device takes as long as it is frozen
        try:
            listener.mute()
            assert listener.stalled_seconds == 0.0
        finally:
            heard.thaw()
        await news.until("muted")
        assert listener.stalled_seconds == 0.0


async def test_a_block_longer_than_the_backlog_is_fed_in_pieces(recognizer, demo) -> None:
    """What waited in the microphone's ring while the program was stopped."""
    engine = Engine(recognizer, max_backlog_seconds=0.5)
    engine.start()
    news = News()
    stream = engine.open(news.events, pytest.fail)
    listener = Listener(stream, RATE_HZ)
    try:
        listener.play(iter([demo[: 6 * RATE_HZ]]))
        async with asyncio.timeout(LIMIT_SECONDS):
            await asyncio.wrap_future(listener.ended)
        assert stream.fed_seconds == 6.0
    finally:
        await asyncio.to_thread(listener.stop, LIMIT_SECONDS)
        engine.close()
