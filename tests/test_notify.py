"""What systemd is told: readiness, signs of life, and none where recognition hangs."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from websockets.asyncio.client import connect

from streamasr.notify import Heartbeat, Notifier
from streamasr.startup import Startup
from tests.notify_socket import NotifySocket, notify_socket
from tests.running_daemon import program, receive_until
from tests.virtual_microphone import VirtualMicrophone

NO_MICROPHONE = ("--device", "a microphone that nobody has")
WATCHDOG = {"WATCHDOG_USEC": "4000000"}


async def test_without_a_microphone_it_is_ready_at_once_and_then_shows_life(
    tmp_path: Path,
) -> None:
    with notify_socket(tmp_path) as systemd:
        environment = systemd.environment | WATCHDOG
        async with program("--input", "none", environment=environment) as daemon:
            ready = await systemd.receive()
            assert ready == "READY=1\nSTATUS=no microphone of its own; 0 speaking, 0 viewing"
            for _ in range(3):
                assert await systemd.receive() == "WATCHDOG=1"
            await daemon.stop()
            *_, stopping = await systemd.receive_until("STOPPING=1")
            assert stopping.startswith("STOPPING=1")
            assert systemd.unread() == []


async def test_ready_comes_with_the_first_sound(
    virtual_microphone: VirtualMicrophone, tmp_path: Path
) -> None:
    with notify_socket(tmp_path) as systemd:
        environment = virtual_microphone.environment | systemd.environment | WATCHDOG
        async with program("--input", "mic", environment=environment):
            *_, ready = await systemd.receive_until("READY=1")
            assert ready == "READY=1\nSTATUS=listening to the microphone; 0 speaking, 0 viewing"
            await systemd.receive_until("WATCHDOG=1")
            await systemd.receive_until("WATCHDOG=1")
            virtual_microphone.stop()
            await systemd.receive_until("STATUS=waiting for the microphone; 0 speaking, 0 viewing")
            virtual_microphone.start()
            await systemd.receive_until("STATUS=listening to the microphone")


async def test_it_waits_for_a_microphone_and_serves_meanwhile(
    virtual_microphone: VirtualMicrophone, tmp_path: Path
) -> None:
    virtual_microphone.stop()
    with notify_socket(tmp_path) as systemd:
        environment = virtual_microphone.environment | systemd.environment
        async with program("--input", "mic", "--wait", environment=environment) as daemon:
            *_, told, patience = await systemd.receive_until("EXTEND_TIMEOUT_USEC=")
            assert told == "STATUS=waiting for the microphone; 0 speaking, 0 viewing"
            assert int(patience.partition("=")[2]) > 10_000_000
            async with connect(daemon.url) as viewer:
                await receive_until(viewer, type="status", microphone="lost")
                virtual_microphone.start()
                *_, ready = await systemd.receive_until("READY=1")
                await receive_until(viewer, type="status", microphone="recovered")
            assert "listening to the microphone" in ready


async def test_patience_is_asked_for_again_and_again(tmp_path: Path) -> None:
    with notify_socket(tmp_path) as systemd:
        environment = systemd.environment | WATCHDOG
        async with program("--wait", *NO_MICROPHONE, environment=environment) as daemon:
            await systemd.receive_until("EXTEND_TIMEOUT_USEC=")
            await systemd.receive_until("EXTEND_TIMEOUT_USEC=")
            await daemon.stop()
            assert not any("READY" in message for message in systemd.unread())


async def test_a_watchdog_of_another_process_is_not_fed(tmp_path: Path) -> None:
    with notify_socket(tmp_path) as systemd:
        others = {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": str(os.getpid())}
        environment = systemd.environment | others
        async with program("--input", "none", environment=environment) as daemon:
            async with connect(daemon.url) as client:
                await receive_until(client, type="status")
            await daemon.stop()
            told = await systemd.receive_until("STOPPING=1")
            assert not any("WATCHDOG" in message for message in told)


async def test_a_network_that_hangs_shows_no_life(tmp_path: Path, demo_pcm: bytes) -> None:
    with notify_socket(tmp_path) as systemd:
        environment = systemd.environment | WATCHDOG
        async with hanging("network", "--input", "none", environment=environment) as process:
            await systemd.receive_until("WATCHDOG=1")
            assert process.stdout is not None
            url = (await process.stdout.readline()).decode().split()[-1]
            async with connect(url) as client:
                await client.send(demo_pcm)
                await shows_no_life(process, systemd)
                await (await client.ping())  # the event loop is well


async def test_a_microphone_that_hangs_shows_no_life(
    virtual_microphone: VirtualMicrophone, tmp_path: Path
) -> None:
    with notify_socket(tmp_path) as systemd:
        environment = virtual_microphone.environment | systemd.environment | WATCHDOG
        async with hanging("microphone", environment=environment) as process:
            await systemd.receive_until("READY=1")
            await shows_no_life(process, systemd)


@asynccontextmanager
async def hanging(
    part: str, *arguments: str, environment: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.hanging_daemon", part, "serve", "--port", "0", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | dict(environment),
    )
    try:
        yield process
    finally:
        process.kill()
        await process.communicate()


async def shows_no_life(process: asyncio.subprocess.Process, systemd: NotifySocket) -> None:
    """At every beat it either sends a sign of life or logs why not."""
    await line_with(process.stderr, "recognition has stalled")
    systemd.unread()
    await line_with(process.stderr, "recognition has stalled")
    await line_with(process.stderr, "recognition has stalled")
    assert not any("WATCHDOG" in message for message in systemd.unread())


async def line_with(stream: asyncio.StreamReader | None, words: str) -> str:
    """Read up to the next line that has these words, and return it."""
    assert stream is not None
    async with asyncio.timeout(60):
        while words not in (line := (await stream.readline()).decode()):
            assert line, "it ended"
    return line


async def test_abstract_sockets() -> None:
    name = f"@streamasr-test-{os.getpid()}"
    systemd = NotifySocket(name)
    Notifier({"NOTIFY_SOCKET": name}).status("here")
    assert await systemd.receive() == "STATUS=here"
    systemd.close()


async def test_a_reload_says_when(tmp_path: Path) -> None:
    with notify_socket(tmp_path) as systemd:
        Notifier(systemd.environment).reloading()
        reloading, when = (await systemd.receive()).splitlines()
        assert reloading == "RELOADING=1"
        assert int(when.removeprefix("MONOTONIC_USEC=")) > 0


async def test_a_program_that_was_stopped_is_looked_at_twice(tmp_path: Path) -> None:
    """At first nobody has had time to show life."""
    with notify_socket(tmp_path) as systemd:
        notifier = Notifier(systemd.environment | {"WATCHDOG_USEC": "600000000"})
        stalled_seconds = iter((500.0, 0.0))
        heartbeat = Heartbeat(notifier, lambda: "", lambda: next(stalled_seconds))
        beating = asyncio.create_task(heartbeat.run())
        await systemd.receive_until("WATCHDOG=1")
        beating.cancel()


def test_a_manager_that_has_gone_is_one_line_in_the_log(tmp_path: Path, caplog) -> None:
    with notify_socket(tmp_path) as systemd:
        notifier = Notifier(systemd.environment)
    notifier.ready("here")
    notifier.watchdog()
    assert [record.getMessage() for record in caplog.records] == [
        "systemd cannot be told READY=1: [Errno 111] Connection refused"
    ]


def test_nobody_is_told_where_nobody_listens() -> None:
    notifier = Notifier({"WATCHDOG_USEC": "1000"})
    notifier.ready("here")
    assert not notifier.is_heard
    assert notifier.watchdog_seconds is None


def test_only_the_first_ready_counts(tmp_path: Path) -> None:
    with notify_socket(tmp_path) as systemd:
        heartbeat = Heartbeat(Notifier(systemd.environment), lambda: "here", lambda: 0.0)
        assert heartbeat.ready()
        assert not heartbeat.ready()
        assert systemd.unread() == ["READY=1\nSTATUS=here"]


async def test_a_start_says_what_it_took() -> None:
    program = "import logging, sys; logging.basicConfig(level='INFO'); from streamasr.cli import "
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", f"{program} main; main(sys.argv[1:])"),
        *("serve", "--port", "0", "--input", "none"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        line = await line_with(process.stderr, "ready after ")
    finally:
        process.kill()
        await process.communicate()
    total, _, parts = line.partition("ready after ")[2].partition(" s: ")
    names, seconds = zip(*(part.rsplit(" ", 1) for part in parts.strip().split(", ")), strict=True)
    assert {"python", "imports", "checkpoint", "lexicon", "language model"} <= set(names)
    rounding_seconds = 0.005 * (len(names) + 1)
    assert abs(sum(map(float, seconds)) - float(total)) <= rounding_seconds


def test_the_parts_of_a_start_add_up() -> None:
    startup = Startup()
    for part in ("imports", "checkpoint", "imports"):
        startup.lap(part)
    startup.loaded()
    assert list(startup.parts) == ["imports", "checkpoint"]
    assert abs(sum(startup.parts.values()) - startup.total_seconds) < 1e-6
    assert str(startup).startswith("ready after ")
