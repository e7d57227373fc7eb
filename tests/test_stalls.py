"""The daemon is stopped for half a minute, or the wall clock jumps: nothing that was said is lost.

Where systemd watches it, a stop longer than ``WatchdogSec=`` ends in a restart instead.
"""

import asyncio
import email.utils
import signal
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from streamasr.client import Client
from streamasr.events import Final
from tests.running_daemon import (
    LIMIT_SECONDS,
    Program,
    answer,
    program,
    receive_until,
    utterances,
)
from tests.virtual_microphone import VirtualMicrophone

STOP_SECONDS = 30.0
LAST_WORDS = "stopped at last"
PAUSE = bytes(2 * 32_000)
LIBRARY = "libfaketimeMT.so.1"


def ring_of(seconds: float, folder: Path) -> tuple[str, str]:
    """How much sound waits where nobody reads."""
    path = folder / f"ring{seconds}.toml"
    path.write_text(f"[capture]\nring_seconds = {seconds}\n")
    return "--config", str(path)


async def test_stopped_for_half_a_minute(
    virtual_microphone: VirtualMicrophone, tmp_path: Path, demo_wav: Path, demo_pcm: bytes
) -> None:
    """A viewer of the microphone and a speaker in mid-sentence, who goes on; beside them a daemon
    with little room for sound."""
    environment = virtual_microphone.environment
    async with (
        hearing_microphone(environment, *ring_of(2 * STOP_SECONDS, tmp_path)) as daemon,
        hearing_microphone(environment, *ring_of(0.5, tmp_path)) as short,
        connect(daemon.url, ping_timeout=None) as viewer,
        connect(short.url, ping_timeout=None) as short_viewer,
        Client(daemon.url, config={"sample_rate": 16_000}) as speaker,
    ):
        virtual_microphone.play(demo_wav)
        speaking = asyncio.create_task(speak(speaker, demo_pcm + PAUSE, times=4))
        hearing = asyncio.create_task(texts(speaker))
        heard = await receive_until(viewer, type="partial")
        for stopped in (daemon, short):
            stopped.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(STOP_SECONDS)
        for stopped in (daemon, short):
            stopped.process.send_signal(signal.SIGCONT)
        heard += await receive_until(viewer, type="final")
        assert LAST_WORDS in heard[-1]["text"]
        virtual_microphone.play(demo_wav)
        heard += await receive_until(viewer, type="final")
        assert LAST_WORDS in heard[-1]["text"]
        heard += await receive_until(viewer, type="status")
        assert microphone_states(heard) == {"ok"}
        assert heard[-1]["dropped_ms"] == 0
        overrun = await receive_until(short_viewer, type="final")
        while LAST_WORDS not in overrun[-1]["text"]:  # the next utterance is whole again
            overrun += await receive_until(short_viewer, type="final")
        overrun += await receive_until(short_viewer, type="status")
        assert microphone_states(overrun) == {"ok"}
        assert overrun[-1]["dropped_ms"] > 0
        await speaking
        assert [LAST_WORDS in text for text in await hearing] == [True] * 4
        for stopped in (daemon, short):
            await stopped.stop()
            assert stopped.process.returncode == 0


def hearing_microphone(
    environment: Mapping[str, str], *arguments: str
) -> AbstractAsyncContextManager[Program]:
    return program(
        *("--input", "mic", *arguments),
        environment=environment,
        limit_seconds=STOP_SECONDS + LIMIT_SECONDS,
    )


async def speak(speaker: Client, sentence: bytes, *, times: int) -> None:
    """In real time."""
    loop = asyncio.get_running_loop()
    begin_seconds = loop.time()
    sound = sentence * times
    for first in range(0, len(sound), 6_400):
        await asyncio.sleep(begin_seconds + first / 32_000 - loop.time())
        await speaker.send(sound[first : first + 6_400])
    await speaker.close()


async def texts(speaker: Client) -> list[str]:
    return [event.text async for event in speaker if isinstance(event, Final)]


def microphone_states(messages: list[dict]) -> set[str]:
    return {message["microphone"] for message in messages if message["type"] == "status"}


# ---- The wall clock jumps. ------------------------------------------------------------------


class WallClock:
    """The time of day of a program, by libfaketime; the monotonic clock goes on."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.shift("+0")
        self.environment = {
            "LD_PRELOAD": library(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def shift(self, offset: str) -> None:
        """From now on; ``+1y`` and ``-1y`` are a year."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset}\n")
        new.replace(self._file)


def library() -> str:
    """libfaketime, where there is one; skips where there is none."""
    for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"):
        path = Path(folder, "faketime", LIBRARY)
        if path.exists():
            return str(path)
    pytest.skip("libfaketime is not installed (apt install faketime)")


async def year_of(daemon: Program) -> int:
    """By the date of what it answers."""
    date = (await answer(daemon, "/healthz")).headers["Date"]
    return email.utils.parsedate_to_datetime(date).year


async def test_the_wall_clock_may_jump(
    virtual_microphone: VirtualMicrophone, tmp_path: Path, demo_wav: Path, demo_pcm: bytes
) -> None:
    clock = WallClock(tmp_path)
    environment = virtual_microphone.environment | clock.environment
    async with (
        program("--input", "mic", environment=environment) as daemon,
        connect(daemon.url) as viewer,
        connect(daemon.url) as speaker,
    ):
        now = await year_of(daemon)
        (alone,) = await utterances(speaker, demo_pcm)
        for offset, years in (("+1y", 1), ("-1y", -1)):
            virtual_microphone.play(demo_wav)
            heard = await receive_until(viewer, type="partial")
            await speaker.send(demo_pcm[:64_000])
            clock.shift(offset)
            assert await year_of(daemon) == now + years
            (shifted,) = await utterances(speaker, demo_pcm[64_000:])
            assert shifted["text"] == alone["text"]
            assert shifted["end"] - shifted["start"] == pytest.approx(
                alone["end"] - alone["start"], abs=0.2
            )
            heard += await receive_until(viewer, type="final")
            assert LAST_WORDS in heard[-1]["text"]
            assert 3.0 < heard[-1]["end"] - heard[-1]["start"] < 6.0
            assert microphone_states(heard) <= {"ok"}
            assert not [message for message in heard if message["type"] == "error"]
        await daemon.stop()
        assert daemon.process.returncode == 0
