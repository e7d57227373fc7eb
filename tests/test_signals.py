"""SIGUSR1 shows what the program does; SIGHUP on a terminal that has gone ends it."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from websockets.asyncio.client import connect

from tests.notify_socket import notify_socket
from tests.running_daemon import START_SECONDS, program, receive
from tests.virtual_microphone import VirtualMicrophone

BUFFER_BYTES = 64 << 10  # of a pipe
STACKS_BYTES = 2_000  # at least, of all threads
PIPE = asyncio.subprocess.PIPE


async def test_sigusr1_shows_stacks_and_figures() -> None:
    async with program("--input", "none", stderr=PIPE) as daemon:
        for _ in range(2):
            daemon.process.send_signal(signal.SIGUSR1)
            figures = await daemon.log_line("streamasr: seconds=")
            for name in ("microphone=none", "streams=0", "backlog_seconds=0", "finals=0"):
                assert f" {name}" in figures
            for name in ("dropped_seconds", "resident_mib", "open_files", "threads", "clients"):
                assert f" {name}=" in figures
        assert daemon.logged.count("Current thread") == 2
        assert "engine.py" in daemon.logged  # the worker's stack
        await daemon.stop()
        assert daemon.process.returncode == 0


async def test_stacks_that_nobody_reads_hold_nobody_up() -> None:
    nobody_reads, stderr = os.pipe()
    try:
        async with program("--input", "none", stderr=stderr) as daemon:
            for _ in range(BUFFER_BYTES // STACKS_BYTES + 5):
                daemon.process.send_signal(signal.SIGUSR1)
                async with connect(daemon.url) as client:  # it answers, so the signal was heard
                    await receive(client)
            await daemon.stop()
            assert daemon.process.returncode == 0
    finally:
        os.close(nobody_reads)
        os.close(stderr)


async def test_stacks_come_where_python_is_stuck() -> None:
    """A C function that keeps the interpreter's lock: no Python code can run."""
    script = """if True:
        import asyncio, ctypes, os
        from streamasr.signals import Signals

        async def main():
            signals = Signals(os.fdopen(os.dup(2), "wb", buffering=0))
            signals.attach(lambda: None, lambda: None, lambda: "")
            os.write(1, b"stuck")
            stuck = ctypes.PyDLL(None).pause
            while True:
                stuck()

        asyncio.run(main())
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script), stdout=PIPE, stderr=PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            assert await process.stdout.readexactly(5) == b"stuck"
            process.send_signal(signal.SIGUSR1)
            assert (await process.stderr.readline()).startswith(b"Current thread")
            assert (await process.stderr.readline()).strip().endswith(b"in main")
    finally:
        process.kill()
        await process.communicate()


@contextmanager
def on_a_terminal() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The daemon with a terminal of its own, and the end that shows what it prints."""
    shown, terminal = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "streamasr", "serve", "--input", "none", "--port", "0"],
        start_new_session=True,
        preexec_fn=lambda: os.login_tty(terminal),
    )
    os.close(terminal)
    try:
        yield process, shown
    finally:
        process.kill()
        process.wait()


def read_until(shown: int, wanted: bytes) -> None:
    text = b""
    while wanted not in text:
        assert select.select([shown], [], [], START_SECONDS)[0], f"it does not print {wanted!r}"
        text += os.read(shown, 4096)


def test_a_terminal_that_goes_takes_the_daemon_along() -> None:
    with on_a_terminal() as (process, shown):
        read_until(shown, b"captions page:")
        process.send_signal(signal.SIGHUP)
        read_until(shown, b"INFO reloaded")
        os.close(shown)
        assert process.wait(START_SECONDS) == 0


async def test_signals_that_come_last_do_not_kill_it() -> None:
    for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGTERM):
        async with program("--input", "none", stderr=asyncio.subprocess.DEVNULL) as daemon:
            ended = asyncio.create_task(daemon.stop())
            while not ended.done():
                with suppress(ProcessLookupError):
                    # process.send_signal would take its exit status from asyncio.
                    os.kill(daemon.process.pid, number)
                await asyncio.sleep(0.005)  # the loop must have time for anything else
            await ended
            assert daemon.process.returncode == 0


async def test_a_sound_server_that_hangs_at_the_start_does_not_keep_it_from_ending(
    virtual_microphone: VirtualMicrophone,
) -> None:
    with virtual_microphone.hanging() as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "streamasr", "serve", "--port", "0"),
            stdout=asyncio.subprocess.DEVNULL,
            env=os.environ | virtual_microphone.environment,
        )
        try:
            connection, _ = await asyncio.to_thread(server.accept)
            with connection:
                process.send_signal(signal.SIGTERM)
                async with asyncio.timeout(START_SECONDS):
                    assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_an_input_that_fails_while_a_reload_loads_is_one_line(tmp_path: Path) -> None:
    with notify_socket(tmp_path) as systemd:
        async with program(
            "--input", "-", stdin=PIPE, stderr=PIPE, environment=systemd.environment
        ) as daemon:
            assert daemon.process.stdin is not None
            await systemd.receive_until("READY=1")
            daemon.process.send_signal(signal.SIGHUP)
            await systemd.receive_until("RELOADING=1")
            daemon.process.stdin.write(bytes(32_001))  # half a sample too much
            daemon.process.stdin.close()
            assert await daemon.process.wait() == 3
            assert "\nstreamasr: " in await daemon.read_log()
