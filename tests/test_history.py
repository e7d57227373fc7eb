"""What was said is kept where somebody asks for it, and nothing is without."""

import asyncio
import json
import logging
import os
import queue
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from logging.handlers import QueueHandler
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect

from streamasr.config import HistoryConfig
from streamasr.errors import ConfigError
from streamasr.events import Final, Word
from streamasr.history import HistoryFile, open_history
from tests.running_daemon import Program, finals, program, receive_rest
from tests.test_daemon import serve

PIPE = asyncio.subprocess.PIPE
LIMIT_SECONDS = 30
TRACE_SECONDS = 90  # it is slower when it is watched
LINE = json.dumps({"time": "2026-01-01T00:00:00.000+00:00", "text": "x" * 100})


def final(text: str) -> Final:
    word = Word(text, 1.0, 2.5, 0.75)
    return Final(3, text, 1.0, 2.5, (word,), 0.75, (), "silence", "silence_after_words")


def lines(path: Path) -> list[dict]:
    """What a file holds; every line must be whole."""
    text = path.read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def history_file(path: Path, max_bytes: int = 10_000, keep_files: int = 2) -> HistoryFile:
    return HistoryFile(path, max_bytes=max_bytes, keep_files=keep_files)


def test_a_final_is_a_line_with_its_wall_clock_time(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "history.jsonl"
    before = datetime.now().astimezone()
    history = open_history(HistoryConfig(path))
    assert history is not None
    history.write(final("wörd"))
    history.close(LIMIT_SECONDS)
    (kept,) = lines(path)
    time = datetime.fromisoformat(kept.pop("time"))
    assert time.tzinfo is not None
    assert before - timedelta(seconds=1) <= time <= datetime.now().astimezone()
    assert kept == {
        "text": "wörd",
        "start": 1.0,
        "end": 2.5,
        "confidence": 0.75,
        "end_reason": "silence",
        "words": [{"word": "wörd", "start": 1.0, "end": 2.5, "confidence": 0.75}],
    }
    assert rights(path) == 0o600
    assert rights(path.parent) == rights(path.parent.parent) == 0o700


def test_none_is_kept_where_nobody_asks() -> None:
    assert open_history(HistoryConfig()) is None


def test_full_files_are_numbered_and_the_last_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "history"
    file = history_file(path, max_bytes=3 * (len(LINE) + 1))
    for _ in range(11):
        file.append(LINE)
    file.close()
    kept = sorted(tmp_path.iterdir())
    assert [each.name for each in kept] == ["history", "history.1", "history.2"]
    assert [len(lines(each)) for each in kept] == [2, 3, 3]
    assert all(rights(each) == 0o600 for each in kept)


def test_rights_of_others_are_taken_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "history"
    path.write_text(f"{LINE}\n")
    path.chmod(0o644)
    history_file(path).close()
    assert rights(path) == 0o600
    assert len(lines(path)) == 1
    assert "could be read by others" in caplog.text


def test_a_torn_line_is_cut_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "history"
    for torn in (LINE, LINE[:50], LINE[:3]):
        path.write_text(f"{LINE}\n{torn}")
        file = history_file(path)
        file.append(LINE)
        file.close()
        assert len(lines(path)) == 2
        assert "half a line" in caplog.text
        caplog.clear()


@pytest.mark.parametrize(
    "content",
    [
        "somebody's notes",
        "somebody's notes\n",
        "somebody's notes\n\n",
        "\n",
        "somebody's notes\n{",
        f"{LINE}\n\n",
        '{"a": 1}\n',
    ],
)
def test_what_is_no_history_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "notes"
    path.write_text(content)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="is no history; name another"):
        history_file(path)
    assert path.read_text() == content
    assert rights(path) == 0o644


def test_two_do_not_share_a_file(tmp_path: Path) -> None:
    """The second would cut off as torn what the first is just writing."""
    path = tmp_path / "history"
    first = history_file(path, max_bytes=len(LINE) + 1)
    for _ in range(2):  # as it was opened, and as it was begun anew
        first.append(LINE)
        with pytest.raises(ConfigError, match=r"another daemon keeps its history in .*; name"):
            history_file(path)
    first.close()
    second = history_file(path)
    second.append(LINE)
    second.close()
    assert len(lines(path)) == 2


def test_the_same_file_goes_on_within_new_limits(tmp_path: Path) -> None:
    path, other = tmp_path / "history", tmp_path / "other"
    history = open_history(HistoryConfig(path))
    assert history is not None
    history.write(final("one"))
    assert open_history(HistoryConfig(path, max_bytes=1, keep_files=1), history) is history
    history.write(final("two"))
    history.write(final("three"))
    another = open_history(HistoryConfig(other), history)
    assert another is not None
    assert open_history(HistoryConfig(), history) is None
    for each in (history, another):
        each.close(LIMIT_SECONDS)
    assert [line["text"] for line in lines(path)] == ["three"]
    assert lines(other) == []


def test_devices_are_left_alone() -> None:
    before = rights(Path("/dev/null"))
    with pytest.raises(ConfigError, match="no regular file"):
        history_file(Path("/dev/null"))
    assert rights(Path("/dev/null")) == before


def test_what_cannot_be_written_is_named_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "file" / "history"
    path.parent.write_text("no folder")
    run = serve("--port", "0", "--input", "none", "--history", str(path))
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert str(path) in run.stderr
    assert "--history" in run.stderr


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "history"
    file = history_file(path)
    file.append(LINE)
    path.rename(tmp_path / "yesterday")
    file.append(LINE)
    path.unlink()
    file.append(LINE)
    file.close()
    assert len(lines(path)) == len(lines(tmp_path / "yesterday")) == 1


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """64 KiB; skipped where nothing can be mounted."""
    path.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    command = [mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("no small disk can be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_a_full_disk_tears_no_line(tmp_path: Path) -> None:
    """Lines have different lengths: one is torn by the end of the disk."""
    with small_disk(tmp_path / "disk") as disk:
        (disk / "filler").write_bytes(bytes(48 << 10))
        path = disk / "history"
        file = history_file(path, max_bytes=1 << 20)
        kept = 0

        def fill() -> None:
            nonlocal kept
            while True:
                file.append(json.dumps({"time": "2026", "text": "x" * (kept * 7 % 101)}))
                kept += 1

        with pytest.raises(OSError, match="No space left"):
            fill()
        assert len(lines(path)) == kept > 100
        (disk / "filler").unlink()
        file.append(LINE)
        file.close()
        assert len(lines(path)) == kept + 1


def test_a_full_disk_is_told_once_and_finals_are_kept_again(tmp_path: Path) -> None:
    told: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = QueueHandler(told)
    log = logging.getLogger("streamasr.history")
    log.addHandler(handler)
    try:
        with small_disk(tmp_path / "disk") as disk:
            (disk / "filler").write_bytes(bytes(64 << 10))
            history = open_history(HistoryConfig(disk / "history"))
            assert history is not None
            history.write(final("lost"))
            assert "No space left" in told.get(timeout=LIMIT_SECONDS).message
            (disk / "filler").unlink()
            for text in ("kept", "as well"):
                history.write(final(text))
            history.close(LIMIT_SECONDS)
            assert [line["text"] for line in lines(disk / "history")] == ["kept", "as well"]
        assert "finals that are missing: 1" in told.get(timeout=LIMIT_SECONDS).message
        assert told.empty()
    finally:
        log.removeHandler(handler)


# ---- The real program. --------------------------------------------------------------------


def written_files(daemon: Program) -> set[Path]:
    """The regular files that it has open for writing."""
    folder = Path(f"/proc/{daemon.process.pid}")
    found = set()
    for link in (folder / "fd").iterdir():
        try:
            flags = int((folder / "fdinfo" / link.name).read_text().split()[3], 8)
            if flags & os.O_ACCMODE != os.O_RDONLY and stat.S_ISREG(link.stat().st_mode):
                found.add(link.readlink())
        except FileNotFoundError:  # closed meanwhile
            continue
    return found


def places(tmp_path: Path) -> dict[str, str]:
    """An environment where all that could be written by habit goes below ``tmp_path``."""
    names = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR")
    return dict.fromkeys(names, str(tmp_path))


async def heard(daemon: Program, pcm: bytes, may_write: set[Path]) -> None:
    """Say this on its standard input and look at its files while it listens."""
    stdin = daemon.process.stdin
    assert stdin is not None
    for first in range(0, len(pcm), 16_000):
        stdin.write(pcm[first : first + 16_000])
        await stdin.drain()
        assert written_files(daemon) <= may_write
    stdin.write(bytes(64_000))
    while not (await daemon.line("")).startswith("final: "):
        assert written_files(daemon) <= may_write


async def test_nothing_is_written_where_no_history_is_wanted(
    tmp_path: Path, demo_pcm: bytes
) -> None:
    arguments = ("--input", "-", "--captions")
    environment = places(tmp_path)
    async with program(*arguments, environment=environment, stdin=PIPE, stderr=PIPE) as daemon:
        await heard(daemon, demo_pcm, set())
        await daemon.stop()
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_nothing_is_created_either(tmp_path: Path, demo_wav: Path) -> None:
    """Every file that any thread opens to write, from the first moment to the last."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is missing")
    trace = tmp_path / "trace"
    calls = "open,openat,openat2,creat,mknod,mknodat,rename,renameat,renameat2,link,linkat"
    arguments = ("--input", str(demo_wav), "--captions", "--port", "0")
    tracing = (strace, "--follow-forks", "--seccomp-bpf", "-o", str(trace), "-e", f"trace={calls}")
    run = subprocess.run(
        [*tracing, sys.executable, "-B", "-m", "streamasr", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=TRACE_SECONDS,
        check=False,
    )
    if "ptrace" in run.stderr:
        pytest.skip("no program can be traced here")
    assert "final: " in run.stdout
    opened = trace.read_text()
    assert str(demo_wav) in opened
    writing = [
        line
        for line in opened.splitlines()
        if re.search(r"O_WRONLY|O_RDWR|O_CREAT|creat\(|mknod|rename|link", line)
        and " = -1 " not in line
        and '"/dev/null"' not in line
        and '"/dev/fd/' not in line  # standard error
    ]
    assert writing == []


async def test_the_history_has_what_viewers_see_and_follows_logrotate(
    tmp_path: Path, demo_pcm: bytes
) -> None:
    path, rotated = tmp_path / "history", tmp_path / "history.1"
    arguments = ("--input", "-", "--captions", "--history", str(path))
    environment = places(tmp_path)
    async with (
        program(*arguments, environment=environment, stdin=PIPE, stderr=PIPE) as daemon,
        connect(daemon.url) as viewer,
    ):
        await heard(daemon, demo_pcm, {path})
        path.rename(rotated)
        daemon.process.send_signal(signal.SIGHUP)
        await heard(daemon, demo_pcm, {path, rotated})
        said = finals(await rest_after_stop(daemon, viewer))
    kept = lines(rotated) + lines(path)
    assert len(lines(path)) >= 1
    assert [line["text"] for line in kept] == [final["text"] for final in said]
    assert kept[0]["words"] == said[0]["words"]
    assert rights(path) == 0o600


async def rest_after_stop(daemon: Program, viewer: ClientConnection) -> list[dict]:
    receiving = asyncio.create_task(receive_rest(viewer))
    await daemon.stop()
    return await receiving
