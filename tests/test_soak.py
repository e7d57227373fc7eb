"""``streamasr soak``: what it plays, what it concludes, and a few minutes of the real thing."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamasr.cli import main
from streamasr.errors import ConfigError
from streamasr.events import Final
from streamasr.soak.figures import (
    Row,
    Verdict,
    constant,
    heard,
    latency,
    memory,
    numbered,
    percentile_ms,
    repeated,
    same_words,
)
from streamasr.soak.programme import QUIET_SECONDS, SHARES, Block, Programme, Sounds, Span
from streamasr.training.sounds import SAMPLE_RATE_HZ
from tests.running_daemon import LIMIT_SECONDS

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
ROW = Row(1.0, 100.0, 400.0, 300.0, 10.0, 20.0, 10.0, 20.0, 0.03, 12, 6, 300)


@pytest.fixture(scope="module")
def sounds() -> Sounds:
    """Half a second of a "voice" and nothing recorded of noise."""
    voice = np.random.default_rng(0).uniform(-0.5, 0.5, SAMPLE_RATE_HZ // 2).astype(np.float32)
    return Sounds(voice, (voice, np.tile(voice, 4)))


def samples_of(blocks: list[Block]) -> np.ndarray:
    return np.concatenate([block.samples for block in blocks])


# ---- The programme. -------------------------------------------------------------------------


def test_the_second_half_is_the_first_again(sounds: Sounds) -> None:
    programme = Programme(sounds, rows=4, row_seconds=300.1, seed=1)
    rows = [samples_of(list(programme.row(number))) for number in range(4)]
    for row in rows:
        length = len(programme.control.samples) + len(row)
        assert length == programme.row_seconds * SAMPLE_RATE_HZ
        assert length % 2560 == 0
        assert not np.any(row[-int(QUIET_SECONDS * SAMPLE_RATE_HZ) :])
        assert np.abs(row).max() > 0
    assert np.array_equal(rows[0], rows[2])
    assert np.array_equal(rows[1], rows[3])
    assert not np.array_equal(rows[0], rows[1])
    other = Programme(sounds, rows=4, row_seconds=300.1, seed=2)
    assert not np.array_equal(rows[0], samples_of(list(other.row(0))))


def test_speech_has_the_place_it_claims_and_quiet_after_it(sounds: Sounds) -> None:
    programme = Programme(sounds, rows=2, row_seconds=1200, seed=0)
    blocks = [block for block in programme.row(0) if block.spoken]
    assert blocks
    for block in blocks:
        starts = [span.start_seconds for span in block.spoken]
        ends = [span.end_seconds for span in block.spoken]
        next_starts = [*starts[1:], len(block.samples) / SAMPLE_RATE_HZ]
        for start, end, next_start in zip(starts, ends, next_starts, strict=True):
            assert next_start - end >= 1.0
            loud, quiet = (
                np.sqrt(np.mean(block.samples[int(a * 16_000) : int(b * 16_000)] ** 2))
                for a, b in ((start, end), (end, next_start))
            )
            assert loud > 20 * quiet


def test_a_home_is_quiet_most_of_the_time() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    assert SHARES["speech"] + SHARES["speech in noise"] == pytest.approx(0.2)
    assert SHARES["room"] + SHARES["silence"] > 0.5


def test_a_row_without_room_for_its_control_is_refused(sounds: Sounds) -> None:
    with pytest.raises(ConfigError, match=r"--hours must be above 0\.\d+"):
        Programme(sounds, rows=4, row_seconds=12.0, seed=0)


# ---- The verdicts. --------------------------------------------------------------------------


def test_percentiles_of_a_histogram_in_between() -> None:
    before = {0.01: 100.0, 0.02: 100.0, float("inf"): 100.0}
    after = {0.01: 150.0, 0.02: 190.0, float("inf"): 200.0}
    assert percentile_ms(0.25, before, after) == pytest.approx(5)
    assert percentile_ms(0.7, before, after) == pytest.approx(15)
    assert percentile_ms(0.99, before, after) == pytest.approx(20)  # more is not known
    assert np.isnan(percentile_ms(0.5, after, after))


def test_memory_may_grow_by_two_percent_after_the_second_row() -> None:
    grown = [replace(ROW, resident_mb=mb) for mb in (300.0, 400.0, 450.0, 407.0)]
    assert memory(grown).passed
    assert not memory([*grown, replace(ROW, resident_mb=409.0)]).passed


def test_the_control_must_not_take_longer_later() -> None:
    slow = replace(ROW, chunk_p95_ms=24.0)
    busy = replace(slow, fresh_p95_ms=24.0)  # the machine is
    assert latency([ROW] * 8).passed
    assert latency([*[ROW] * 4, slow, slow, ROW, busy]).passed
    assert not latency([*[ROW] * 6, slow, slow]).passed
    assert not latency([ROW, replace(ROW, chunk_p50_ms=12.0)]).passed


def test_files_and_threads_must_stay_as_they_are() -> None:
    assert constant([ROW, ROW]).passed
    assert not constant([ROW, replace(ROW, open_files=13)]).passed
    assert not constant([ROW, replace(ROW, threads=7)]).passed


@pytest.mark.parametrize(
    ("numbers", "by_speakers", "counted", "losses", "passed"),
    [
        ([0, 1, 2], 2, 5, 0, True),
        ([0, 2, 3], 2, 5, 0, False),  # one is missing
        ([1, 2, 3], 2, 5, 0, False),  # the first
        ([0, 1], 2, 5, 0, False),  # the last
        ([0, 1, 1], 2, 5, 0, False),  # one came twice
        ([0, 1, 2], 1, 5, 0, False),  # a speaker's
        ([0, 1, 2], 2, 5, 1, False),
    ],
)
def test_no_final_may_be_lost(
    numbers: list[int], by_speakers: int, counted: int, losses: int, passed: bool
) -> None:
    assert numbered(numbers, by_speakers, counted, losses).passed is passed


def test_the_same_sound_must_give_the_same_words() -> None:
    assert same_words("control", [("a", "b"), ("a", "b")]).passed
    assert not same_words("control", [("a", "b"), ("a",)]).passed
    assert not same_words("control", [(), ()]).passed
    assert not same_words("control", []).passed
    row = [(1.0, "a"), (2.5, "b")]
    assert repeated([row, row], [row, row]).passed
    assert not repeated([row], [row[:1]]).passed
    assert not repeated([row], [[(1.0, "a"), (2.6, "b")]]).passed


def test_speech_must_have_finals() -> None:
    def final(start: float, end: float) -> Final:
        return Final(0, "a", start, end, (), 1.0, (), "silence")

    spoken = [Span(10.0 * number, 10.0 * number + 5) for number in range(20)]
    finals = [final(span.start_seconds + 1, span.start_seconds + 3) for span in spoken]
    assert heard(spoken, finals).passed
    assert heard(spoken, finals[1:]).passed
    assert not heard(spoken, finals[2:]).passed
    assert not heard(spoken, [final(6.0, 9.0)]).passed


# ---- The real thing. ------------------------------------------------------------------------


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streamasr", "soak", *arguments), stdout=asyncio.subprocess.PIPE
    )


async def stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


async def first_row(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    header = await process.stdout.readline()
    assert b"resident MB" in header
    return (await process.stdout.readline()).decode()


@pytest.mark.timeout(300)
async def test_minutes_through_the_real_daemon(tmp_path: Path) -> None:
    """The short form: what a busy machine can say of 216 s of audio."""
    log, plot = tmp_path / "soak.jsonl", tmp_path / "soak.png"
    soak = await start("--hours", "0.06", "--json", "--log", str(log), "--plot", str(plot))
    try:
        out, _ = await soak.communicate()
    finally:
        await stop(soak)
    report = json.loads(out)
    verdicts = {name: Verdict(name, **verdict) for name, verdict in report["verdicts"].items()}
    assert verdicts.keys() == {
        *("rows", "finals", "speech", "speakers", "control", "input", "memory"),
        *("files and threads", "latency", "repeats", "end"),
    }
    # So few rows are a start only, and neighbours may slow any of them down.
    failed = [v for v in verdicts.values() if not v.passed and v.name not in ("memory", "latency")]
    assert not failed
    assert soak.returncode == (0 if report["passed"] else 1)
    rows = report["rows"]
    assert [row["audio_hours"] for row in rows] == pytest.approx(
        [0.015, 0.03, 0.045, 0.06], rel=0.01
    )
    assert rows[3]["resident_mb"] < 1.2 * rows[1]["resident_mb"]
    assert all(0 < row["anonymous_mb"] < row["resident_mb"] < 2_000 for row in rows)
    assert all(0 < row["chunk_p50_ms"] < row["chunk_p95_ms"] for row in rows)
    assert all(0 < row["fresh_p50_ms"] < row["fresh_p95_ms"] for row in rows)
    assert all(row["load"] > 0 for row in rows)
    assert all(row["finals"] >= 6 for row in rows)  # five sentences, one of a speaker
    assert [json.loads(line) for line in log.read_text().splitlines()] == rows
    assert plot.read_bytes().startswith(PNG_MAGIC)


@pytest.mark.timeout(300)
async def test_an_interrupted_soak_tells_what_it_has() -> None:
    soak = await start("--hours", "0.06")
    try:
        assert await first_row(soak)
        soak.send_signal(signal.SIGINT)
        out, _ = await soak.communicate()
    finally:
        await stop(soak)
    lines = out.decode().splitlines()
    assert soak.returncode == 1
    failed = [line for line in lines if line.startswith("FAIL")]
    assert len(failed) == 1
    assert failed[0].startswith("FAIL  rows: ")
    assert failed[0].endswith(" of 4 finished")
    assert any(line.startswith("pass  control: ") for line in lines)


def only_child(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


@pytest.mark.timeout(300)
async def test_a_daemon_that_dies_is_a_verdict() -> None:
    soak = await start("--hours", "0.06")
    try:
        assert await first_row(soak)
        os.kill(only_child(soak.pid), signal.SIGKILL)
        out, _ = await soak.communicate()
    finally:
        await stop(soak)
    assert soak.returncode == 1
    assert out.decode().splitlines()[-1] == "FAIL  end: the daemon ended with exit code -9"


@pytest.mark.parametrize("hours", ["nan", "inf", "-1", "0.01", "1e9"])
def test_hours_that_cannot_be_are_refused(hours: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["soak", f"--hours={hours}"]) == 2
    printed = capsys.readouterr()
    assert "--hours must be 0.06..1000, not" in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("flag", ["--plot", "--log"])
def test_what_cannot_be_written_is_said_before_the_day(
    tmp_path: Path, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["soak", flag, str(tmp_path / "nowhere" / "file")]) == 2
    assert f"{flag}: {tmp_path}/nowhere/file cannot be written" in capsys.readouterr().err


def test_a_missing_manifest_is_named() -> None:
    soak = subprocess.run(
        [sys.executable, "-m", "streamasr", "soak", "--speech", "nowhere.tsv"],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert soak.returncode == 2
    assert "manifest nowhere.tsv cannot be read" in soak.stderr
