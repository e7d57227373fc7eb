"""What the daemon logs, for whom, and what it never does."""

import asyncio
import fcntl
import json
import os
import re
import signal
import sys
import termios
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.running_daemon import LIMIT_SECONDS, finals, program, receive_rest

PIPE = asyncio.subprocess.PIPE
TIMED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} [A-Z]+ ")
UTTERANCE = re.compile(
    r"(\w+( [0-9a-f]{6})?): utterance of (\d+\.\d\d) s, words (\d+), confidence (0\.\d\d|1\.00), "
    r"ended by (\w+), delay \d+ ms"
)
TOKEN = "q4rt-token-of-this-test-7xz"


async def speak(url: str, pcm: bytes, token: str = "") -> list[dict]:
    """The finals of a client of the native protocol."""
    async with connect(url, additional_headers={"Authorization": f"Bearer {token}"}) as client:
        await client.send(pcm)
        await client.send(json.dumps({"type": "close"}))
        return finals(await receive_rest(client))


async def test_one_line_an_utterance_and_never_its_words(tmp_path: Path, demo_pcm: bytes) -> None:
    """Whoever speaks, and with a secret."""
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    token_file.chmod(0o600)
    arguments = ("--token-file", str(token_file), "--input", "-")
    config = tmp_path / "streamasr.toml"
    config.write_text("[log]\ncounters_seconds = 0.5\n")
    async with program(*arguments, "--config", str(config), stdin=PIPE, stderr=PIPE) as daemon:
        with pytest.raises(InvalidStatus):
            await speak(daemon.url, demo_pcm, f"{TOKEN}-that-is-wrong")
        said = await speak(daemon.url, demo_pcm, TOKEN)
        native = UTTERANCE.search(await daemon.log_line("native "))
        async with connect(f"{daemon.url.removesuffix('/v1')}/vosk") as client:
            await client.send(json.dumps({"config": {"token": TOKEN, "sample_rate": 16_000}}))
            await client.send(demo_pcm)
            await client.send(json.dumps({"eof": 1}))
            while not json.loads(await client.recv()).get("text"):
                pass
        vosk = UTTERANCE.search(await daemon.log_line("vosk "))
        stdin = daemon.process.stdin
        assert stdin is not None
        stdin.write(demo_pcm)
        stdin.close()
        own = UTTERANCE.search(await daemon.log_line("input: "))
        assert await daemon.process.wait() == 0
        log = await daemon.read_log()
    (final,) = said
    for line in (native, vosk, own):
        assert line is not None
        assert float(line[3]) == pytest.approx(final["end"] - final["start"], abs=0.011)
        assert int(line[4]) == len(final["words"])
        assert float(line[5]) == pytest.approx(final["confidence"], abs=0.011)
        assert line[6] == "silence_after_words"
    assert all(TIMED.match(line) for line in log.splitlines())
    assert TOKEN not in log
    words = {word["word"] for word in final["words"] if len(word["word"]) > 3}
    assert "kettle" in words
    assert not [word for word in words if word in log]
    assert " clients=" in log


async def test_the_text_is_logged_where_somebody_asks_for_it(demo_pcm: bytes) -> None:
    async with program("--input", "none", "--log-text", stderr=PIPE) as daemon:
        (final,) = await speak(daemon.url, demo_pcm)
        assert (await daemon.log_line("utterance")).endswith(f" ms: {final['text']}")


async def test_counters_tell_what_happened_since_the_last(tmp_path: Path, demo_pcm: bytes) -> None:
    config = tmp_path / "streamasr.toml"
    config.write_text("[log]\ncounters_seconds = 1.0\n")
    async with program("--input", "none", "--config", str(config), stderr=PIPE) as daemon:
        await speak(daemon.url, demo_pcm)
        heard_seconds = finals_counted = 0.0
        while heard_seconds < len(demo_pcm) / 32_000:
            line = await daemon.log_line(" clients=")
            figures = dict(part.split("=") for part in line.split()[2:])
            heard_seconds += float(figures["audio_seconds"])
            finals_counted += float(figures["finals"])
        assert heard_seconds == len(demo_pcm) / 32_000
        line = await daemon.log_line(" clients=")
        assert " audio_seconds=0 " in line
        assert " real_time_factor=0 " in line
        config.write_text("[log]\ncounters_seconds = 0\n")
        daemon.process.send_signal(signal.SIGHUP)
        await daemon.log_line("INFO reloaded")
        await speak(daemon.url, demo_pcm)
        assert "clients" not in await daemon.log_line("")


async def test_the_journal_gets_priorities_and_no_time(demo_pcm: bytes) -> None:
    reading, writing = os.pipe()
    status = os.fstat(writing)
    journal = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
    with os.fdopen(reading) as log:
        async with program(
            "--input", "none", "--captions", environment=journal, stderr=writing
        ) as daemon:
            os.close(writing)
            await speak(daemon.url, demo_pcm)
            await daemon.stop()
        assert re.fullmatch(f"<6>ready after .*\n<6>{UTTERANCE.pattern}\n", log.read())


async def test_beside_captions_only_warnings_are_shown(demo_wav: Path) -> None:
    async with program("--input", str(demo_wav), "--captions", stderr=PIPE) as daemon:
        assert "final: " in await daemon.read_rest()
        assert await daemon.read_log() == ""


async def test_what_finds_no_room_is_counted() -> None:
    script = """if True:
        import logging, os
        from streamasr.logs import Logs
        logs = Logs()
        for number in range(5000):
            logging.getLogger("streamasr").info("line %d", number)
        os.write(1, b"done")
        os.read(0, 1)
        logs.stop(60)
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            assert await process.stdout.readexactly(4) == b"done"
            _, log = await process.communicate(b"x")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lost = re.findall(r"WARNING (\d+) log lines were lost", log.decode())
    assert sum(map(int, lost)) == 5_000 - log.decode().count("INFO line ")
    assert lost


async def test_a_reader_of_the_log_who_stops_holds_nobody_up(
    tmp_path: Path, demo_pcm: bytes
) -> None:
    config = tmp_path / "streamasr.toml"
    config.write_text("[log]\ncounters_seconds = 0.01\n")
    reading, writing = os.pipe()
    size_bytes = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    try:
        async with program("--input", "none", "--config", str(config), stderr=writing) as daemon:
            os.close(writing)
            await speak(daemon.url, demo_pcm)
            waiting = fcntl.ioctl(reading, termios.FIONREAD, bytes(4))
            assert int.from_bytes(waiting, sys.byteorder) > size_bytes - 512
            assert await speak(daemon.url, demo_pcm)
            await daemon.stop()
            assert daemon.process.returncode == 0
    finally:
        os.close(reading)
