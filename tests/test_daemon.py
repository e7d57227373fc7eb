"""The real program: started, spoken to in its protocol, stopped."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect

from tests.running_daemon import (
    LIMIT_SECONDS,
    finals,
    program,
    receive,
    receive_rest,
    receive_until,
    send_in_real_time,
)
from tests.virtual_microphone import VirtualMicrophone

# Also where the machine that runs the tests has a microphone, this one is not there.
NO_MICROPHONE = ("--device", "a microphone that nobody has")


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``streamasr serve`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "streamasr", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


async def test_partials_come_while_a_recording_is_spoken(demo_pcm: bytes) -> None:
    async with program("--input", "none") as daemon, connect(daemon.url) as client:
        assert (await receive(client))["type"] == "hello"
        receiving = asyncio.create_task(receive_rest(client))
        await send_in_real_time(client, demo_pcm)
        await client.send(json.dumps({"type": "close"}))
        messages = await receiving
        assert client.close_code == 1000
    partials = [message for message in messages if message["type"] == "partial"]
    said = finals(messages)
    assert said
    speech_seconds = sum(final["end"] - final["start"] for final in said)
    assert len(partials) >= speech_seconds
    assert messages[-1]["type"] == "final"


async def test_a_speaker_in_mid_sentence_gets_its_final_before_the_end(demo_pcm: bytes) -> None:
    async with program("--input", "none") as daemon, connect(daemon.url) as client:
        sending = asyncio.create_task(send_in_real_time(client, demo_pcm))
        await receive_until(client, type="partial")
        receiving = asyncio.create_task(receive_rest(client))
        seconds = await daemon.stop()
        messages = await receiving
        sending.cancel()
        await asyncio.wait((sending,))
        assert finals(messages)
        assert daemon.process.returncode == 0
        assert seconds < 2.0


async def test_a_stop_with_a_long_backlog_still_takes_less_than_two_seconds(
    demo_pcm: bytes,
) -> None:
    async with program("--input", "none") as daemon, connect(daemon.url) as client:
        sending = asyncio.create_task(send_at_once(client, demo_pcm, times=50))
        await receive_until(client, type="partial")
        receiving = asyncio.create_task(receive_rest(client))
        seconds = await daemon.stop()
        await receiving
        sending.cancel()
        await asyncio.wait((sending,))
        assert daemon.process.returncode == 0
        assert seconds < 2.0


async def send_at_once(client: ClientConnection, pcm: bytes, *, times: int) -> None:
    for _ in range(times):
        await client.send(pcm)


async def test_a_file_is_heard_by_viewers_and_ends_the_daemon(demo_wav: Path) -> None:
    async with program("--input", str(demo_wav), "--captions") as daemon:
        async with connect(daemon.url) as viewer:
            messages = await receive_rest(viewer)
            assert viewer.close_code == 1001
        printed = await daemon.read_rest()
        assert await daemon.process.wait() == 0
    heard = [final["text"] for final in finals(messages)]
    assert heard
    shown = [line for line in printed.splitlines() if line.startswith("final: ")]
    assert shown == [f"final: {text}" for text in heard]
    assert "partial: " in printed
    assert printed.startswith("captions page: http://127.0.0.1:")


async def test_standard_input_is_heard(demo_pcm: bytes) -> None:
    async with program("--input", "-", "--captions", stdin=asyncio.subprocess.PIPE) as daemon:
        stdin = daemon.process.stdin
        assert stdin is not None
        stdin.write(demo_pcm)
        stdin.close()
        assert "final: " in await daemon.read_rest()
        assert await daemon.process.wait() == 0


async def test_a_stop_does_not_wait_for_a_silent_pipe() -> None:
    async with program("--input", "-", stdin=asyncio.subprocess.PIPE) as daemon:
        assert await daemon.stop() < 2.0
        assert daemon.process.returncode == 0


async def test_the_virtual_microphone_is_heard_lost_and_found(
    virtual_microphone: VirtualMicrophone, demo_wav: Path
) -> None:
    environment = virtual_microphone.environment
    async with (
        program("--input", "mic", environment=environment) as daemon,
        connect(daemon.url) as viewer,
    ):
        assert (await receive(viewer))["type"] == "hello"
        assert (await receive(viewer))["microphone"] == "ok"
        playing = virtual_microphone.play(demo_wav)
        await receive_until(viewer, type="partial")
        virtual_microphone.stop()
        assert playing.returncode is not None
        lost = await receive_until(viewer, type="status", microphone="lost")
        assert finals(lost)[-1]["end_reason"] == "device_lost"
        virtual_microphone.start()
        await receive_until(viewer, type="status", microphone="recovered")
        virtual_microphone.play(demo_wav)
        assert finals(await receive_until(viewer, type="final"))
        assert await daemon.stop() < 2.0
        assert daemon.process.returncode == 0


async def test_a_fallback_is_played_where_there_is_no_microphone(demo_wav: Path) -> None:
    run = await asyncio.to_thread(
        serve, *NO_MICROPHONE, "--port", "0", "--captions", "--fallback", str(demo_wav)
    )
    assert run.returncode == 0
    assert "final: " in run.stdout
    assert run.stderr.count("\n") == 1
    assert "no microphone" in run.stderr
    assert str(demo_wav) in run.stderr


def test_no_microphone_is_one_line_with_the_mend() -> None:
    run = serve("--port", "0", *NO_MICROPHONE)
    assert run.returncode == 3
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1
    assert "microphone" in run.stderr


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = serve("--input", "none", "--port", str(port))
    assert run.returncode == 5
    assert run.stderr.count("\n") == 1
    assert str(port) in run.stderr


def test_an_unknown_key_is_a_configuration_error(tmp_path: Path) -> None:
    path = tmp_path / "streamasr.toml"
    path.write_text("[serve]\nprot = 9000\n")
    run = serve("--config", str(path))
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert "did you mean port?" in run.stderr


def test_a_truncated_file_is_understood_as_far_as_it_goes(demo_wav: Path) -> None:
    os.truncate(demo_wav, demo_wav.stat().st_size - 1_000)
    run = serve("--port", "0", "--captions", "--input", str(demo_wav))
    assert "final: " in run.stdout
    assert run.returncode == 3
    assert "truncated: 1000 bytes" in run.stderr
    assert run.stderr.count("\n") == 1


async def test_the_terminal_viewer_shows_what_is_said(demo_wav: Path) -> None:
    async with program("--input", str(demo_wav)) as daemon:
        viewer = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "streamasr", "captions", daemon.url),
            stdout=asyncio.subprocess.PIPE,
        )
        assert viewer.stdout is not None
        lines = [""]
        while not lines[-1].startswith("final: "):
            lines.append((await viewer.stdout.readline()).decode())
            assert lines[-1], "the viewer ended"
        assert any(line.startswith("partial: ") for line in lines)
        viewer.terminate()
        await viewer.wait()
