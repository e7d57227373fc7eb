"""The real program spoken to by the client of the ``wyoming`` package, as Home Assistant does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.vad import VoiceStarted, VoiceStopped

from tests.running_daemon import Program, program

Connect = Callable[[], AsyncTcpClient]

FORMAT = {"rate": 16_000, "width": 2, "channels": 1}


@asynccontextmanager
async def started() -> AsyncIterator[tuple[Program, Connect]]:
    """The program, and what makes a client of its Wyoming port."""
    async with program("--input", "none", "--wyoming-port", "0") as daemon:
        host, port = (await daemon.line("wyoming: tcp://")).rsplit(":", 1)
        yield daemon, lambda: AsyncTcpClient(host, int(port))


async def say(client: AsyncTcpClient, pcm: bytes, packet_bytes: int = 2_048) -> None:
    await client.write_event(Transcribe(language="en").event())
    await client.write_event(AudioStart(**FORMAT).event())
    for first in range(0, len(pcm), packet_bytes):
        chunk = AudioChunk(audio=pcm[first : first + packet_bytes], **FORMAT)
        await client.write_event(chunk.event())
    await client.write_event(AudioStop().event())


async def read_until(client: AsyncTcpClient, event_type: str) -> list[Event]:
    events: list[Event] = []
    while not events or events[-1].type != event_type:
        event = await client.read_event()
        assert event is not None, "the daemon hung up"
        events.append(event)
    return events


async def test_describe_says_what_there_is() -> None:
    async with started() as (_, connect), connect() as client:
        await client.write_event(Describe().event())
        info = Info.from_event((await read_until(client, "info"))[-1])
    (program_info,) = info.asr
    assert program_info.name == "streamasr"
    assert program_info.installed
    assert program_info.supports_transcript_streaming
    (model,) = program_info.models
    assert model.languages == ["en"]
    assert [info.tts, info.handle, info.intent, info.wake] == [[]] * 4


async def test_two_utterances_one_after_the_other(demo_pcm: bytes) -> None:
    async with started() as (_, connect), connect() as client:
        said = []
        for _ in range(2):
            await say(client, demo_pcm)
            events = await read_until(client, "transcript-stop")
            transcript = Transcript.from_event(events[-2]).text
            chunks = [TranscriptChunk.from_event(e) for e in events if e.type == "transcript-chunk"]
            assert "".join(chunk.text for chunk in chunks) == transcript != ""
            kinds = [event.type for event in events]
            assert kinds.index("transcript-start") < kinds.index("transcript-chunk")
            assert VoiceStarted.is_type(events[0].type)
            assert any(VoiceStopped.is_type(kind) for kind in kinds)
            assert TranscriptStart.is_type("transcript-start")
            assert TranscriptStop.is_type(kinds[-1])
            said.append(transcript)
        await client.write_event(Ping(text="still there?").event())
        assert Pong.from_event((await read_until(client, "pong"))[-1]).text == "still there?"
    assert said[0] == said[1]


async def test_words_come_while_one_speaks(demo_pcm: bytes) -> None:
    async with started() as (_, connect), connect() as client:
        await client.write_event(AudioStart(**FORMAT).event())
        await client.write_event(AudioChunk(audio=demo_pcm, **FORMAT).event())
        await read_until(client, "transcript-chunk")  # before audio-stop was sent
        await client.write_event(AudioStop().event())
        assert Transcript.from_event((await read_until(client, "transcript"))[-1]).text


async def test_silence_has_an_empty_transcript() -> None:
    async with started() as (_, connect), connect() as client:
        await say(client, bytes(32_000))
        events = await read_until(client, "transcript")
        assert Transcript.from_event(events[-1]).text == ""
        await client.write_event(AudioStop().event())
        assert Transcript.from_event((await read_until(client, "transcript"))[-1]).text == ""


MISTAKES = (
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "bad_json"),
    (b'{"type": "audio-start", "data": {"rate": -1, "width": 2, "channels": 1}}\n', "bad_value"),
    (b'{"type": "audio-start", "data": {"rate": 16000, "width": 3}}\n', "bad_value"),
    (b'{"type": "transcribe", "data": {"language": "de"}}\n', "unsupported"),
    (b'{"type": "audio-chunk", "payload_length": 99999999999}\n', "message_too_big"),
    (b'{"type": "x", "payload_length": NaN}\n', "bad_json"),
    (b"\xff\xfe\n", "bad_json"),
)


async def test_mistakes_get_what_was_heard_a_code_and_the_end(demo_pcm: bytes) -> None:
    async with started() as (_, connect):
        for message, code in MISTAKES:
            async with connect() as client:
                await client.write_event(AudioStart(**FORMAT).event())
                await client.write_event(AudioChunk(audio=demo_pcm[:96_000], **FORMAT).event())
                assert client._writer is not None
                client._writer.write(message)
                events = await read_until(client, "error")
                assert Error.from_event(events[-1]).code == code
                (text,) = (Transcript.from_event(e).text for e in events if e.type == "transcript")
                assert text
                assert await client.read_event() is None


async def test_a_stop_says_what_was_heard(demo_pcm: bytes) -> None:
    async with started() as (daemon, connect), connect() as client:
        await client.write_event(AudioStart(**FORMAT).event())
        await client.write_event(AudioChunk(audio=demo_pcm, **FORMAT).event())
        await read_until(client, "transcript-chunk")
        stopping = asyncio.create_task(daemon.stop())
        assert Transcript.from_event((await read_until(client, "transcript"))[-1]).text
        assert await stopping < 2.0
