"""What must not stop the daemon, one fault after the other; and how it ends where it must.

More faults: test_shortages.py (descriptors, memory), test_stalls.py (it is stopped, the clock
jumps), test_microphone.py and test_daemon.py (the sound server), test_notify.py (a part that
hangs), test_resume.py (the network).
"""

import asyncio
import fcntl
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

import streamasr
from streamasr.config import shipped
from tests.notify_socket import notify_socket
from tests.running_daemon import (
    LIMIT_SECONDS,
    Program,
    answer,
    finals,
    program,
    receive_rest,
    receive_until,
    said,
)
from tests.test_daemon import serve

PAUSE = bytes(2 * 32_000)
PIPE_BYTES = 4096


# ---- Nobody takes what it prints. -----------------------------------------------------------


@asynccontextmanager
async def printing_to(output: int | None, folder: Path) -> AsyncIterator[Program]:
    """The program with captions of its standard input, once it is ready; None closes its output."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    serve = (sys.executable, "-m", "streamasr", "serve", "--input", "-", "--captions")
    closed = ("sh", "-c", 'exec "$@" >&- 2>&-', "sh") if output is None else ()
    with notify_socket(folder) as systemd:
        process = await asyncio.create_subprocess_exec(
            *(*closed, *serve, "--port", str(port)),
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=os.environ | systemd.environment,
        )
        try:
            await systemd.receive_until("READY=1")
            async with asyncio.timeout(LIMIT_SECONDS):
                yield Program(process, f"ws://127.0.0.1:{port}/v1")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def disk_full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def reader_gone() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def reader_hangs() -> int:
    """There is room for the daemon's first lines; the end that should read is left open."""
    _, writer = os.pipe()
    assert fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES) == PIPE_BYTES
    os.write(writer, bytes(PIPE_BYTES - 200))
    return writer


def closed() -> None:
    return None


@pytest.mark.parametrize("output", [disk_full, reader_gone, reader_hangs, closed])
async def test_nobody_takes_what_it_prints(
    output: Callable[[], int | None], tmp_path: Path, demo_pcm: bytes
) -> None:
    async with printing_to(output(), tmp_path) as daemon, connect(daemon.url) as viewer:
        stdin = daemon.process.stdin
        assert stdin is not None
        for _ in range(2):
            stdin.write(demo_pcm + PAUSE)
            assert finals(await receive_until(viewer, type="final"))
        async with connect(daemon.url) as speaker:
            assert await said(speaker, demo_pcm)
        await daemon.stop()
        assert daemon.process.returncode == 0


@pytest.mark.parametrize("output", [disk_full, reader_gone, reader_hangs, closed])
async def test_nobody_takes_why_it_ends(output: Callable[[], int | None], tmp_path: Path) -> None:
    async with printing_to(output(), tmp_path) as daemon:
        assert daemon.process.stdin is not None
        daemon.process.stdin.write(bytes(32_001))  # half a sample too much
        daemon.process.stdin.close()
        assert await daemon.process.wait() == 3


# ---- Its files are replaced under it. -------------------------------------------------------


async def test_files_that_are_overwritten_or_cut_disturb_nobody(
    tmp_path: Path, demo_pcm: bytes
) -> None:
    """All that it was started from: models, lexicon, page, detector, and the program itself."""
    package = shutil.copytree(Path(streamasr.__file__).parent, tmp_path / "streamasr")
    checkpoint = shutil.copy(shipped("checkpoints", "english.safetensors"), tmp_path)
    language_model = shutil.copy(shipped("lm", "english.kenlm"), tmp_path)
    lexicon = shutil.copy(shipped("lm", "lexicon.txt.xz"), tmp_path)
    files = [checkpoint, language_model, lexicon, *package.rglob("*.*")]
    models = ("--checkpoint", checkpoint, "--language-model", language_model, "--lexicon", lexicon)
    environment = {"PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}
    async with (
        program("--input", "none", *map(str, models), environment=environment) as daemon,
        connect(daemon.url) as speaker,
    ):
        page = (await answer(daemon, "/")).text
        text = await said(speaker, demo_pcm)
        assert "good morning" in text
        for spoil in (overwrite, empty):
            for file in files:
                spoil(Path(file))
            assert await said(speaker, demo_pcm) == text
            async with connect(daemon.url) as another:
                await another.send('{"type": "config", "hotwords": [{"phrase": "tavik morrenta"}]}')
                assert await said(another, demo_pcm) == text
            assert (await answer(daemon, "/")).text == page
        await daemon.stop()
        assert daemon.process.returncode == 0


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))


def empty(path: Path) -> None:
    os.truncate(path, 0)


# ---- Somebody else has its port. ------------------------------------------------------------


async def test_a_port_that_is_stolen_is_named_in_one_line_and_taken_once_it_is_free() -> None:
    async with program("--input", "none") as daemon:
        port = int(daemon.url.rpartition(":")[2].removesuffix("/v1"))
        await daemon.stop()
    with socket.create_server(("127.0.0.1", port)):
        refused = await asyncio.to_thread(serve, "--input", "none", "--port", str(port))
    assert refused.returncode == 5
    assert refused.stderr.count("\n") == 1
    assert str(port) in refused.stderr
    assert "--port" in refused.stderr
    async with program("--input", "none", port=port) as daemon:
        await daemon.stop()


# ---- A part of it fails. --------------------------------------------------------------------


async def test_one_stream_that_fails_leaves_the_others(tmp_path: Path, demo_pcm: bytes) -> None:
    trigger = tmp_path / "fail"
    module = ("tests.failing_daemon", "network", str(trigger))
    async with (
        program("--input", "none", module=module) as daemon,
        connect(daemon.url) as victim,
        connect(daemon.url) as other,
    ):
        text = await said(victim, demo_pcm)
        assert await said(other, demo_pcm) == text
        trigger.touch()
        await victim.send(demo_pcm)
        told = await receive_rest(victim)
        assert victim.close_code == 1011
        assert (told[-1]["type"], told[-1]["code"]) == ("error", "internal")
        assert await said(other, demo_pcm) == text
        await daemon.stop()
        assert daemon.process.returncode == 0


@pytest.mark.parametrize("part", ["network", "worker"])
async def test_where_it_cannot_hear_any_more_it_ends_and_says_what_it_heard(
    part: str, tmp_path: Path, demo_pcm: bytes
) -> None:
    """Its own input's stream cannot go on, or no stream can; systemd starts it anew."""
    trigger = tmp_path / "fail"
    pipe = asyncio.subprocess.PIPE
    module = ("tests.failing_daemon", part, str(trigger))
    async with (
        program("--input", "-", stdin=pipe, stderr=pipe, module=module) as daemon,
        connect(daemon.url) as viewer,
        connect(daemon.url) as speaker,
    ):
        stdin = daemon.process.stdin
        assert stdin is not None
        await speaker.send(demo_pcm[: len(demo_pcm) // 2])
        await receive_until(speaker, type="partial")
        stdin.write(demo_pcm + PAUSE)
        heard = await receive_until(viewer, type="final")
        trigger.touch()
        stdin.write(demo_pcm)
        _, complaint = await daemon.process.communicate()
        assert daemon.process.returncode == 1
        assert b"MemoryError: none is left" in complaint
        assert finals(heard)
        await receive_rest(viewer)
        assert viewer.close_code == 1001
        assert finals(await receive_rest(speaker))
        assert speaker.close_code == 1001
