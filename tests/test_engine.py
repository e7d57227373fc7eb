"""The engine: order per stream, bounded backlogs, and the same events for any cutting."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Future

import numpy as np
import pytest

from streamasr.engine import Engine
from streamasr.engine_stream import EngineStream, PcmFormat
from streamasr.errors import AudioFormatError, ProtocolError, StreamFinished
from streamasr.events import Event, Final, StreamEnded

LIMIT_SECONDS = 60


@pytest.fixture
async def engine(recognizer) -> AsyncIterator[Engine]:
    engine = Engine(recognizer, max_backlog_seconds=600.0)
    engine.start()
    yield engine
    engine.close()


async def done(future: "Future[None]") -> None:
    async with asyncio.timeout(LIMIT_SECONDS):
        await asyncio.wrap_future(future)


def opened(engine: Engine, **options) -> tuple[EngineStream, list[Event], list[Exception]]:
    events: list[Event] = []
    failures: list[Exception] = []
    return engine.open(events.extend, failures.append, **options), events, failures


async def test_events_do_not_depend_on_how_the_audio_is_cut(engine: Engine, demo_pcm) -> None:
    results = []
    for piece_bytes in (len(demo_pcm), 333, 64_000):
        stream, events, failures = opened(engine, pcm=PcmFormat())
        for first in range(0, len(demo_pcm), piece_bytes):
            stream.feed(demo_pcm[first : first + piece_bytes])
        await done(stream.finish())
        assert failures == []
        results.append(events)
    assert results[0] == results[1] == results[2]
    assert any(isinstance(event, Final) for event in results[0])
    assert isinstance(results[0][-1], StreamEnded)


async def test_samples_and_bytes_are_the_same_audio(engine: Engine, demo_pcm) -> None:
    from_bytes, byte_events, _ = opened(engine, pcm=PcmFormat())
    from_bytes.feed(demo_pcm)
    from_samples, sample_events, _ = opened(engine)
    from_samples.feed(np.frombuffer(demo_pcm, dtype="<i2").astype(np.float32) / 32768)
    await done(from_bytes.finish())
    await done(from_samples.finish())
    assert byte_events == sample_events != []


async def test_finalize_and_finish_follow_the_audio_before_them(engine: Engine, demo_pcm) -> None:
    stream, events, _ = opened(engine, pcm=PcmFormat())
    stream.feed(demo_pcm)
    await done(stream.finalize())
    first = [event for event in events if isinstance(event, Final)]
    assert first
    stream.feed(demo_pcm)
    finished = stream.finish("eof")
    assert stream.finish() is finished
    await done(finished)
    assert len([event for event in events if isinstance(event, Final)]) > len(first)
    with pytest.raises(StreamFinished):
        stream.feed(b"\0\0")
    with pytest.raises(StreamFinished):
        stream.finalize()


async def test_a_full_backlog_is_refused_and_room_is_told(recognizer) -> None:
    engine = Engine(recognizer, max_backlog_seconds=1.0)
    stream, _, _ = opened(engine, pcm=PcmFormat())
    stream.feed(bytes(32_000))
    assert stream.backlog_seconds == 1.0
    with pytest.raises(ProtocolError) as refusal:
        stream.feed(bytes(2))
    assert refusal.value.code == "backlog"
    assert refusal.value.fatal
    room = stream.room_for(bytes(16_000))
    assert not room.done()
    engine.start()
    await done(room)
    stream.feed(bytes(16_000))
    await done(stream.finish())
    assert stream.backlog_seconds == 0.0
    engine.close()


async def test_a_long_backlog_does_not_hold_up_another_stream(engine: Engine, demo_pcm) -> None:
    greedy, _, _ = opened(engine, pcm=PcmFormat())
    for _ in range(20):
        greedy.feed(demo_pcm)
    modest, events, _ = opened(engine, pcm=PcmFormat())
    modest.feed(demo_pcm)
    await done(modest.finish())
    assert any(isinstance(event, Final) for event in events)
    assert greedy.backlog_seconds > 0.0
    greedy.discard_backlog()
    discarded_seconds = greedy.discarded_seconds
    assert discarded_seconds > 0.0
    await done(greedy.finish())
    assert greedy.backlog_seconds == 0.0
    assert greedy.discarded_seconds == discarded_seconds


async def test_audio_that_is_no_audio_is_reported_and_survived(engine: Engine, demo_pcm) -> None:
    stream, events, failures = opened(engine, pcm=PcmFormat(encoding="pcm_f32le"))
    stream.feed(b"\xff" * 4_000)
    await done(stream.finalize())
    assert [type(failure) for failure in failures] == [AudioFormatError]
    speech = np.frombuffer(demo_pcm, dtype="<i2").astype("<f4") / np.float32(32768)
    stream.feed(speech.tobytes())
    await done(stream.finish())
    assert any(isinstance(event, Final) for event in events)
    assert len(failures) == 1


async def test_impossible_formats_are_refused_at_once(engine: Engine) -> None:
    with pytest.raises(AudioFormatError):
        opened(engine, pcm=PcmFormat(channels=0))
