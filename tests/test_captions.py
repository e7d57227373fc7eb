"""Live captions: what the terminal shows, and that watching needs no recognizer."""

import asyncio
import io
import os
import pty
import select
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from streamasr.captions import viewer
from streamasr.captions.subtitle_file import SubtitleFile
from streamasr.captions.terminal import TerminalCaptions
from streamasr.captions.viewer import FileClock, Viewer
from streamasr.client import Connected, Lost
from streamasr.errors import AddressError
from streamasr.events import SpeechStarted
from streamasr.wire.native_reader import ServerError, Status
from tests.running_daemon import program
from tests.scripted_server import LIMIT_SECONDS, Peer, final, partial, scripted
from tests.subtitle_player import assert_monotonic, packets

DEMO = Path(__file__).parent / "recordings" / "demo.flac"


def test_a_pipe_gets_a_line_for_every_change() -> None:
    output = io.StringIO()
    captions = TerminalCaptions(output)
    captions.show([SpeechStarted(0, 0.0), partial("play"), partial("play"), partial("play kind")])
    captions.show([final("play kind of blue"), partial("play kind")])
    captions.close()
    assert output.getvalue().splitlines() == [
        "partial: play",
        "partial: play kind",
        "final: play kind of blue",
        "partial: play kind",
    ]


def test_a_terminal_gets_dim_partials_and_solid_finals() -> None:
    controller, terminal = pty.openpty()
    with open(terminal, "w", encoding="utf-8") as output:  # noqa: PTH123
        captions = TerminalCaptions(output)
        captions.show([partial("play kind"), final("play kind of blue")])
        captions.close()
        output.write("END")
        output.flush()
        # One reading gives only what has come through so far.
        shown = b""
        while not shown.endswith(b"END"):
            assert select.select([controller], [], [], LIMIT_SECONDS)[0], shown
            shown += os.read(controller, 65_536)
    os.close(controller)
    assert b"play kind of blue\r\n" in shown
    assert b"\x1b[2" in shown[: shown.index(b"play kind")]
    assert b"final:" not in shown


async def test_the_first_connection_must_succeed() -> None:
    for url, says in (("ws://127.0.0.1:1/v1", "streamasr serve"), ("nonsense", "not a websocket")):
        with pytest.raises(AddressError, match=says):
            async with asyncio.timeout(LIMIT_SECONDS):
                await viewer.watch(url)


async def test_the_viewer_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    """A daemon that hangs up after every final is visited again."""
    third_visit = asyncio.Event()

    async def say_one_thing(peer: Peer) -> None:
        await peer.greet()
        if peer.visit > 1:
            await peer.receive()
            await peer.error("unknown_session", fatal=False)
        await peer.event(final(f"visit {peer.visit}"))
        if peer.visit == 3:
            third_visit.set()
        await peer.connection.close(1001)

    async with scripted(say_one_thing) as url:
        watching = asyncio.create_task(viewer.watch(url))
        await third_visit.wait()
        watching.cancel()
        await asyncio.wait((watching,))
    printed = capsys.readouterr()
    assert printed.out.splitlines()[:2] == ["final: visit 1", "final: visit 2"]
    assert "the daemon is gone; trying again" in printed.err
    assert "connected again; words may be missing" in printed.err


def test_notes_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Viewer(TerminalCaptions(io.StringIO()), ())
    shown.show(Connected("s1"))
    for microphone in ("ok", "lost", "lost", "recovered", "ok", "asleep"):
        shown.show(Status(microphone, 0, 0))
    shown.show(Lost("more than 256 messages wait; read faster"))
    shown.show(Connected("s1", resumed=True))
    shown.show(ServerError("bad_audio", "these are no numbers", False))
    assert capsys.readouterr().err.splitlines() == [
        "streamasr: the microphone is gone; waiting for it",
        "streamasr: the microphone is back",
        "streamasr: more than 256 messages wait; read faster; trying again",
        "streamasr: connected again",
        "streamasr: these are no numbers",
    ]


def test_the_time_of_a_file_goes_on_whatever_happens_to_the_stream(tmp_path: Path) -> None:
    """0 is when captions first connected, and a daemon that is started again begins where the
    real time stands by then."""
    now = 1000.0
    path = tmp_path / "said.srt"
    with closing(SubtitleFile(path, "srt")) as file:
        clock = FileClock(lambda: now)
        shown = Viewer(TerminalCaptions(io.StringIO()), (file,), clock)
        shown.show(Connected("s1", audio_seconds=500.0))
        shown.show(final("begun before", start=497.0, end=501.5))
        now += 10
        shown.show(final("ten seconds later", start=509.0, end=511.0))
        shown.show(Lost("gone"))
        now += 20
        shown.show(Connected("s1", resumed=True))
        shown.show(final("the same clock", start=519.0, end=521.0))
        now += 30
        shown.show(Lost("gone"))
        shown.show(Connected("s2", audio_seconds=5.0))
        shown.show(final("another clock", start=7.0, end=9.0))
        shown.show(Connected("s3"))  # an old daemon does not say where its clock stands
        shown.show(final("yet another", start=7.5, end=9.5))
    assert packets(path) == [(0, 1.5), (9, 11), (19, 21), (62, 64), (67.5, 69.5)]


async def test_captions_write_subtitles_of_the_real_program(tmp_path: Path) -> None:
    """Killed in the middle of the recording, and started again with the same files."""
    srt, vtt = tmp_path / "said.srt", tmp_path / "said.vtt"
    for visit in (1, 2):
        async with program("--input", str(DEMO)) as daemon:
            watching = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "streamasr", "captions", daemon.url),
                *("--srt", str(srt), "--vtt", str(vtt)),
                stdout=asyncio.subprocess.PIPE,
            )
            assert watching.stdout is not None
            line = b""
            while not line.startswith(b"final: "):
                line = await watching.stdout.readline()
                assert line, "captions ended"
            watching.kill()
            await watching.wait()
        for path in (srt, vtt):
            assert len(packets(path)) == visit
            assert_monotonic(packets(path))


def test_a_token_file_that_is_missing_is_named(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "streamasr", "captions", "--token-file", str(tmp_path / "token")],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert str(tmp_path / "token") in run.stderr


@pytest.mark.parametrize("module", ["streamasr.captions.viewer", "streamasr.cli"])
def test_watching_needs_no_recognizer(module: str) -> None:
    check = (
        f"import sys, {module}\n"
        "print({'torch', 'kenlm', 'pyaudio', 'streamasr.recognizer'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", check],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=True,
    )
    assert run.stdout == "set()\n"
