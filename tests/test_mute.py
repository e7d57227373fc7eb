"""Muting: nobody records any more, everybody is told, and it outlives a restart."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect

from streamasr.capture.mute import MuteSwitch
from tests.notify_socket import notify_socket
from tests.running_daemon import LIMIT_SECONDS, Program, finals, program, receive, receive_until
from tests.virtual_microphone import VirtualMicrophone

MUTE = json.dumps({"type": "mute"})
UNMUTE = json.dumps({"type": "unmute"})
SIGUSR2_BIT = 1 << (signal.SIGUSR2 - 1)


async def greeted(client: ClientConnection) -> tuple[dict, dict]:
    """The hello and the first status."""
    hello, status = await receive(client), await receive(client)
    assert (hello["type"], status["type"]) == ("hello", "status")
    return hello, status


async def until_microphone(client: ClientConnection, state: str) -> list[dict]:
    return await receive_until(client, type="status", microphone=state)


async def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run ``streamasr`` to its end."""
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "streamasr", *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


async def test_muted_nobody_records_and_everybody_is_told(
    virtual_microphone: VirtualMicrophone, demo_wav: Path
) -> None:
    async with (
        program("--input", "mic", environment=virtual_microphone.environment) as daemon,
        connect(daemon.url) as viewer,
        connect(daemon.url) as other,
    ):
        assert (await greeted(viewer))[0]["can_mute"] is True
        await greeted(other)
        await heard(viewer, virtual_microphone, demo_wav)
        assert daemon.process.pid in virtual_microphone.recorders()

        await viewer.send(MUTE)
        told = await until_microphone(viewer, "muted")
        assert daemon.process.pid not in virtual_microphone.recorders()
        assert finals(told)[-1]["end_reason"] == "finalize"
        assert told[-1]["received"] == 1
        assert finals(await until_microphone(other, "muted"))

        await other.send(MUTE)  # it is already: the answer is for him alone
        assert (await until_microphone(other, "muted"))[-1]["received"] == 1
        await other.send(UNMUTE)
        back = await until_microphone(viewer, "ok")
        assert back[-1]["audio_seconds"] >= told[-1]["audio_seconds"]
        assert [message["type"] for message in back] == ["status"]
        assert daemon.process.pid in virtual_microphone.recorders()
        await heard(viewer, virtual_microphone, demo_wav)
        assert await daemon.stop() < 2.0


async def test_who_comes_back_is_told_what_he_missed(
    virtual_microphone: VirtualMicrophone, tmp_path: Path
) -> None:
    """A status is no final: it does not wait for who was cut off, and is told as it is now."""
    config = tmp_path / "streamasr.toml"
    config.write_text("[serve]\nstatus_interval_seconds = 60\n")
    arguments = ("--config", str(config), "--input", "mic")
    async with (
        program(*arguments, environment=virtual_microphone.environment) as daemon,
        connect(daemon.url) as other,
    ):
        cut = await connect(daemon.url)
        hello, _ = await greeted(cut)
        await cut.send(MUTE)
        muted = (await until_microphone(cut, "muted"))[-1]
        cut.transport.abort()
        await until_microphone(other, "muted")
        await other.send(UNMUTE)
        await until_microphone(other, "ok")
        async with connect(daemon.url) as back:
            await greeted(back)
            token = hello["resume_token"]
            await back.send(
                json.dumps({"type": "resume", "resume_token": token, "after_seq": muted["seq"]})
            )
            *_, resumed = await receive_until(back, type="resumed")
            status = await receive(back)
            assert (status["type"], status["microphone"]) == ("status", "ok")
            assert status["seq"] == resumed["seq"] + 1


async def heard(viewer: ClientConnection, microphone: VirtualMicrophone, wav: Path) -> None:
    """Return when a word was understood."""
    microphone.play(wav)
    while not (await receive_until(viewer, type="partial"))[-1]["text"]:
        pass


async def test_a_cut_client_knows_whether_its_mute_was_heard(
    virtual_microphone: VirtualMicrophone,
) -> None:
    async with program("--input", "mic", environment=virtual_microphone.environment) as daemon:
        first = await connect(daemon.url)
        hello, status = await greeted(first)
        await first.send(MUTE)
        seen = await until_microphone(first, "muted")
        first.transport.abort()
        async with connect(daemon.url) as again:
            await greeted(again)
            resume = {"resume_token": hello["resume_token"], "after_seq": status["seq"]}
            await again.send(json.dumps({"type": "resume", **resume}))
            told = await receive_until(again, type="resumed")
            assert told[-1]["received"] == 1
            assert seen[-1] in told
            await again.send(UNMUTE)
            assert (await until_microphone(again, "ok"))[-1]["received"] == 2


async def test_a_signal_mutes_and_the_next_one_unmutes(
    virtual_microphone: VirtualMicrophone,
) -> None:
    async with (
        program("--input", "mic", environment=virtual_microphone.environment) as daemon,
        connect(daemon.url) as viewer,
        captions_notes(daemon.url) as notes,
    ):
        await greeted(viewer)
        daemon.process.send_signal(signal.SIGUSR2)
        await until_microphone(viewer, "muted")
        assert daemon.process.pid not in virtual_microphone.recorders()
        assert b"the microphone is muted" in await notes.readline()
        daemon.process.send_signal(signal.SIGUSR2)
        await until_microphone(viewer, "ok")
        assert b"not muted any more" in await notes.readline()
        assert await daemon.stop() < 2.0


@asynccontextmanager
async def captions_notes(url: str) -> AsyncIterator[asyncio.StreamReader]:
    """What ``streamasr captions`` says beside the captions."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streamasr", "captions", url),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        yield process.stderr
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_who_muted_is_told_that_somebody_unmuted(
    virtual_microphone: VirtualMicrophone,
) -> None:
    async with (
        program("--input", "mic", environment=virtual_microphone.environment) as daemon,
        connect(daemon.url) as muter,
        connect(daemon.url) as unmuter,
    ):
        for client in (muter, unmuter):
            await greeted(client)
        for count in range(1, 4):
            await asyncio.gather(muter.send(MUTE), unmuter.send(UNMUTE))
            for client in (muter, unmuter):
                while (await receive_until(client, type="status"))[-1]["received"] < count:
                    pass
            await unmuter.send(UNMUTE)
            await until_microphone(unmuter, "ok")


async def test_a_restart_in_between_opens_no_device(
    virtual_microphone: VirtualMicrophone, tmp_path: Path, demo_wav: Path
) -> None:
    environment = virtual_microphone.environment | {"RUNTIME_DIRECTORY": str(tmp_path)}
    async with program("--input", "mic", environment=environment) as daemon:
        muting = await command("mute", daemon.url)
        assert (muting.returncode, muting.stderr) == (0, "")
        assert muting.stdout == "the microphone is muted\n"
        await daemon.stop()
    watch = await asyncio.create_subprocess_exec(
        *("pactl", "subscribe"),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | environment,
    )
    assert watch.stdout is not None
    try:
        async with (
            program("--input", "mic", environment=environment) as daemon,
            connect(daemon.url) as viewer,
        ):
            assert (await greeted(viewer))[1]["microphone"] == "muted"
            virtual_microphone.play(demo_wav)
            while b"'new' on sink-input" not in (line := await watch.stdout.readline()):
                assert b"'new' on source-output" not in line
            unmuting = await command("unmute", daemon.url)
            assert (unmuting.returncode, unmuting.stderr) == (0, "")
            assert unmuting.stdout == "the microphone is heard again\n"
            await until_microphone(viewer, "ok")
            while b"'new' on source-output" not in await watch.stdout.readline():
                pass
            await daemon.stop()
    finally:
        watch.terminate()
        await watch.wait()
    assert not MuteSwitch(tmp_path).is_muted


async def test_systemd_is_told_that_a_muted_daemon_is_ready(
    virtual_microphone: VirtualMicrophone, tmp_path: Path
) -> None:
    MuteSwitch(tmp_path).set(True)
    with notify_socket(tmp_path) as systemd:
        environment = virtual_microphone.environment | systemd.environment
        environment |= {"RUNTIME_DIRECTORY": f"{tmp_path}:/elsewhere"}
        async with program("--input", "mic", environment=environment) as daemon:
            *_, ready = await systemd.receive_until("READY=1")
            assert ready == "READY=1\nSTATUS=muted; 0 speaking, 0 viewing"
            daemon.process.send_signal(signal.SIGUSR2)
            await systemd.receive_until("STATUS=listening to the microphone")
            await daemon.stop()


async def test_a_signal_while_the_model_loads_is_not_forgotten(
    virtual_microphone: VirtualMicrophone, tmp_path: Path
) -> None:
    environment = virtual_microphone.environment | {"RUNTIME_DIRECTORY": str(tmp_path)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streamasr", "serve", "--port", "0"),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | environment,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            await asyncio.to_thread(wait_until_it_catches_sigusr2, process.pid)
            process.send_signal(signal.SIGUSR2)
            url = (await process.stdout.readline()).decode().split()[-1]
            async with connect(url) as viewer:
                assert (await greeted(viewer))[1]["microphone"] == "muted"
                assert process.pid not in virtual_microphone.recorders()
            await Program(process, url).stop()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def wait_until_it_catches_sigusr2(pid: int) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    caught = 0
    while not caught & SIGUSR2_BIT:
        assert time.monotonic() < deadline
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        (mask,) = (line.split()[1] for line in lines if line.startswith("SigCgt:"))
        caught = int(mask, 16)


async def test_without_a_microphone_there_is_nothing_to_mute(demo_wav: Path) -> None:
    for source in ("none", str(demo_wav)):
        async with program("--input", source) as daemon, connect(daemon.url) as client:
            assert (await greeted(client))[0]["can_mute"] is False
            daemon.process.send_signal(signal.SIGUSR2)  # it says so in its log, and lives
            for message in (MUTE, UNMUTE):
                await client.send(message)
                error = (await receive_until(client, type="error"))[-1]
                assert (error["code"], error["fatal"]) == ("no_microphone", False)
            refused = await command("mute", daemon.url)
            assert refused.returncode == 3
            assert refused.stdout == ""
            assert refused.stderr.count("\n") == 1
            assert "--input mic" in refused.stderr


async def test_where_the_device_is_gone_unmuting_says_so(
    virtual_microphone: VirtualMicrophone,
) -> None:
    async with program("--input", "mic", environment=virtual_microphone.environment) as daemon:
        assert (await command("mute", daemon.url)).returncode == 0
        virtual_microphone.stop()
        unmuting = await command("unmute", daemon.url)
        assert unmuting.returncode == 3
        assert "gone" in unmuting.stderr
        assert (await command("mute", daemon.url)).returncode == 0


async def test_the_command_needs_the_token_and_a_daemon(tmp_path: Path) -> None:
    nobody = await command("mute", "ws://127.0.0.1:1/v1")
    assert nobody.returncode == 5
    assert nobody.stderr.startswith("streamasr: cannot connect to ws://127.0.0.1:1/v1")
    token_file = tmp_path / "token"
    async with program("--input", "none", "--token-file", str(token_file)) as daemon:
        without = await command("unmute", daemon.url)
        assert without.returncode == 5
        assert "--token-file" in without.stderr
        known = await command("unmute", daemon.url, "--token-file", str(token_file))
        assert known.returncode == 3


def test_what_cannot_be_kept_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    switch = MuteSwitch(tmp_path / "nowhere")
    switch.set(True)
    assert switch.is_muted
    assert "the next start does not know" in caplog.text


def test_the_switch_is_kept_until_it_is_turned(tmp_path: Path) -> None:
    MuteSwitch(tmp_path).set(True)
    assert MuteSwitch(tmp_path).is_muted
    MuteSwitch(tmp_path).set(False)
    assert not MuteSwitch(tmp_path).is_muted
    MuteSwitch(None).set(True)
    assert list(tmp_path.iterdir()) == []
