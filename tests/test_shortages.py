"""No more file descriptors, no more memory: who is served goes on, and it recovers."""

import asyncio
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.notify_socket import notify_socket
from tests.running_daemon import (
    FINALIZE,
    LIMIT_SECONDS,
    Program,
    processor_seconds,
    program,
    receive,
    receive_rest,
    receive_until,
    said,
)

WATCHDOG = {"WATCHDOG_USEC": "4000000"}
ROOM_FILES = 4
# Less than a thread needs for its stack, more than a known stream does for its next sentence.
ROOM_BYTES = 4 << 20
BUSY_SHARE = 0.3
WORDS = [f"{first}{second}" for first in "bdfgk" for second in ("ill", "oom", "ack", "ent")]


def open_files(daemon: Program) -> int:
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))  # noqa: PTH208


def limit_files(daemon: Program, files: int) -> None:
    _, most = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (files, most))


async def test_without_a_free_descriptor_clients_go_on(tmp_path: Path, demo_pcm: bytes) -> None:
    with notify_socket(tmp_path) as systemd:
        async with (
            program(
                *("--input", "none"),
                environment=systemd.environment | WATCHDOG,
                stderr=asyncio.subprocess.PIPE,
            ) as daemon,
            connect(daemon.url) as client,
        ):
            text = await said(client, demo_pcm)
            limit_files(daemon, open_files(daemon) + ROOM_FILES)
            async with AsyncExitStack() as others:
                for _ in range(ROOM_FILES):
                    await receive(await others.enter_async_context(connect(daemon.url)))
                refused = asyncio.create_task(wait_for_hello(daemon.url))
                line = await daemon.log_line("Too many open files")
                assert "LimitNOFILE" in line
                systemd.unread()
                loop = asyncio.get_running_loop()
                begin_seconds, spent_seconds = loop.time(), processor_seconds(daemon)
                for _ in range(3):  # several of the tries that asyncio makes
                    await systemd.receive_until("WATCHDOG=1")
                spent_seconds = processor_seconds(daemon) - spent_seconds
                assert spent_seconds < BUSY_SHARE * (loop.time() - begin_seconds)
                assert await said(client, demo_pcm) == text
                assert not refused.done()
            await refused
            async with connect(daemon.url) as another:
                assert await said(another, demo_pcm) == text
            await daemon.stop()
            assert daemon.process.returncode == 0
            log = (await daemon.read_log()).splitlines()
            assert [each for each in log if " INFO " not in each] == [line]


async def test_counters_go_on_without_a_free_descriptor(tmp_path: Path) -> None:
    config = tmp_path / "streamasr.toml"
    config.write_text("[log]\ncounters_seconds = 1\n")
    arguments = ("--config", str(config), "--input", "none")
    async with program(*arguments, stderr=asyncio.subprocess.PIPE) as daemon:
        limit_files(daemon, open_files(daemon))
        await daemon.log_line("open_files=nan")
        limit_files(daemon, open_files(daemon) + ROOM_FILES)
        while "nan" in await daemon.log_line("open_files="):
            pass


async def wait_for_hello(url: str) -> None:
    async with connect(url, open_timeout=LIMIT_SECONDS) as client:
        assert (await receive(client))["type"] == "hello"


def address_space_bytes(daemon: Program) -> int:
    pages = int(Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def test_memory_that_one_client_lacks_is_an_error_for_it_alone(demo_pcm: bytes) -> None:
    hot_words = [{"phrase": f"{first} {second}"} for first in WORDS for second in WORDS]
    greedy = json.dumps({"type": "config", "hotwords": hot_words})
    async with (
        program("--input", "none", stderr=asyncio.subprocess.PIPE) as daemon,
        connect(daemon.url) as client,
    ):
        text = await said(client, demo_pcm)
        _, most = resource.prlimit(daemon.process.pid, resource.RLIMIT_AS)
        code = None
        while code != "internal":  # it may have held more for a moment when it was measured
            limit_bytes = address_space_bytes(daemon) + ROOM_BYTES
            resource.prlimit(daemon.process.pid, resource.RLIMIT_AS, (limit_bytes, most))
            async with connect(daemon.url) as victim:
                await victim.send(greedy)
                await victim.send(FINALIZE)  # an error, too, where there was enough memory
                code = (await receive_until(victim, type="error"))[-1]["code"]
                if code == "internal":
                    await receive_rest(victim)
                    assert victim.close_code == 1011
        assert await said(client, demo_pcm) == text
        resource.prlimit(daemon.process.pid, resource.RLIMIT_AS, (most, most))
        async with connect(daemon.url) as another:
            await another.send(greedy)
            assert await said(another, demo_pcm)
        await daemon.stop()
        assert daemon.process.returncode == 0


@pytest.mark.parametrize("limit_bytes", [150 << 20, 400 << 20])
def test_too_little_memory_to_start_is_one_line(limit_bytes: int) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "streamasr", "serve", "--input", "none", "--port", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
        preexec_fn=limited(limit_bytes),
    )
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "memory" in run.stderr


def limited(limit_bytes: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
