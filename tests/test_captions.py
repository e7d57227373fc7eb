"""Live captions: what the terminal shows, and that watching needs no recognizer."""

import asyncio
import io
import json
import os
import pty
import subprocess
import sys

import pytest
from websockets.asyncio.server import ServerConnection, serve

from streamasr.captions import viewer
from streamasr.captions.terminal import TerminalCaptions
from streamasr.errors import AddressError
from streamasr.events import Final, Partial, SpeechStarted
from streamasr.wire.native import Encoder

LIMIT_SECONDS = 20


def partial(text: str) -> Partial:
    return Partial(0, text, "", 0.0, 1.0, ())


def final(text: str) -> Final:
    return Final(0, text, 0.0, 1.0, (), 0.9, (), "silence")


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
        shown = os.read(controller, 65_536).decode()
    os.close(controller)
    assert "play kind of blue\r\n" in shown
    assert "\x1b[2" in shown[: shown.index("play kind")]
    assert "final:" not in shown


async def test_the_first_connection_must_succeed() -> None:
    for url, says in (("ws://127.0.0.1:1/v1", "streamasr serve"), ("nonsense", "not a websocket")):
        with pytest.raises(AddressError, match=says):
            async with asyncio.timeout(LIMIT_SECONDS):
                await viewer.watch(url)


async def test_a_server_of_another_kind_is_refused() -> None:
    async def greet(connection: ServerConnection) -> None:
        await connection.send(json.dumps({"type": "welcome"}))

    async with serve(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(AddressError, match="does not speak"):
            async with asyncio.timeout(LIMIT_SECONDS):
                await viewer.watch(f"ws://127.0.0.1:{port}/v1")


async def test_the_viewer_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    """A server that hangs up after every final is visited again."""
    visits = 0
    second_visit = asyncio.Event()

    async def say_one_thing(connection: ServerConnection) -> None:
        nonlocal visits
        visits += 1
        encoder = Encoder(f"session{visits}")
        hello = encoder.encode_hello(model="m", languages=["en"], sample_rate_hz=16_000)
        await connection.send(hello)
        await connection.send(encoder.encode_event(final(f"visit {visits}")))
        if visits == 3:
            second_visit.set()

    async with serve(say_one_thing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        watching = asyncio.create_task(viewer.watch(f"ws://127.0.0.1:{port}/v1"))
        async with asyncio.timeout(LIMIT_SECONDS):
            await second_visit.wait()
        watching.cancel()
        await asyncio.wait((watching,))
    printed = capsys.readouterr()
    assert printed.out.splitlines()[:2] == ["final: visit 1", "final: visit 2"]
    assert "trying again" in printed.err


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
