"""Recording prompts with the real program, from a virtual microphone."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamasr.capture.level import meter
from streamasr.cli import main
from streamasr.errors import ConfigError
from streamasr.record import (
    Clip,
    ManifestLines,
    RecordConfig,
    default_seconds,
    flaw,
    plan,
    write_clip,
)
from streamasr.training.manifest import COLUMNS, read_manifest
from tests.virtual_microphone import VirtualMicrophone

LIMIT_SECONDS = 100
RATE_HZ = 16_000
HEADER = "\t".join(COLUMNS)


@pytest.fixture
def config(tmp_path: Path) -> RecordConfig:
    return RecordConfig(("yes", "play some jazz"), tmp_path / "out", tmp_path / "out/manifest.tsv")


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    """A clip that has been written."""
    clip = Clip("good morning", "anna", tmp_path / "anna" / "good-morning-1.flac", 0.5)
    write_clip(clip, np.full(8_000, 0.25, np.float32))
    return clip


# ---- What is to be recorded. ----------------------------------------------------------------


def test_every_text_comes_once_before_any_comes_twice(config: RecordConfig, tmp_path: Path) -> None:
    clips = plan(replace(config, texts=("Yes", " play  some jazz", "yes"), takes=2, speaker="anna"))
    folder = tmp_path / "out" / "anna"
    assert [(clip.text, clip.path) for clip in clips] == [
        ("yes", folder / "yes-1.flac"),
        ("play some jazz", folder / "play-some-jazz-1.flac"),
        ("yes", folder / "yes-2.flac"),
        ("play some jazz", folder / "play-some-jazz-2.flac"),
    ]
    assert [clip.seconds for clip in clips[:2]] == [2.0, 3.0]
    assert plan(replace(config, seconds=1.5))[1].seconds == 1.5
    assert default_seconds("one two") > default_seconds("one")


def test_no_two_texts_share_a_file(config: RecordConfig) -> None:
    texts = ("don't", "dont", "don t", "do n't", "don't t")
    assert len({clip.path for clip in plan(replace(config, texts=texts))}) == len(texts)


def test_every_mistake_is_named_at_once(config: RecordConfig) -> None:
    wrong = replace(
        config, texts=("track 7", "yes", "", "café"), seconds=0.0, takes=0, speaker="../me"
    )
    with pytest.raises(ConfigError) as refused:
        plan(wrong)
    message = str(refused.value)
    for named in ("'track 7'", "''", "'café'", "--seconds", "--takes", "--speaker", "'../me'"):
        assert named in message
    assert "'yes'" not in message
    assert "\n" not in message


def test_texts_that_cannot_be_spelled_exit_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["record", "yes", "track 7", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("streamasr: cannot record 'track 7': spell it in")
    assert not (tmp_path / "out").exists()


# ---- Whether a clip is any good. ------------------------------------------------------------


def test_flaws() -> None:
    tone = np.sin(np.arange(RATE_HZ) / 10).astype(np.float32)
    assert flaw(0.3 * tone) is None
    assert flaw(0.99 * tone) is None
    assert "too quiet" in str(flaw(0.02 * tone))
    assert "too quiet" in str(flaw(0 * tone))
    assert "clipped" in str(flaw(np.clip(2 * tone, -1, 1)))


def test_the_meter_grows_with_the_level() -> None:
    bars = [meter(np.full(10, level, np.float32)) for level in (0.0, 0.003, 0.1, 1.0)]
    cells = [bar.count("█") for bar in bars]
    assert cells == sorted(set(cells))
    assert len({bar.count("█") + bar.count("░") for bar in bars}) == 1
    assert cells[0] == 0
    assert "░" not in bars[-1]


def test_clips_are_written_bit_for_bit(clip: Clip) -> None:
    pcm = np.array([-32_768, -1, 0, 1, 12_345, 32_767], np.int16)
    write_clip(clip, pcm.astype(np.float32) / np.float32(32_768))
    read, rate_hz = soundfile.read(clip.path, dtype="int16")
    assert rate_hz == RATE_HZ
    assert read.tolist() == pcm.tolist()
    assert [path.name for path in clip.path.parent.iterdir()] == [clip.path.name]


# ---- The manifest. --------------------------------------------------------------------------


def test_the_header_is_written_once(clip: Clip, tmp_path: Path) -> None:
    path = tmp_path / "lists" / "manifest.tsv"
    other = replace(clip, text="good", path=clip.path.with_name("good-1.flac"))
    write_clip(other, np.zeros(4_000, np.float32))
    for each in (clip, other):
        lines = ManifestLines(path)
        assert not lines.has(each)
        lines.add(each)
        assert lines.has(each)
    assert path.read_text().splitlines() == [
        HEADER,
        "../anna/good-morning-1.flac\t0.500\tanna\tgood morning",
        "../anna/good-1.flac\t0.250\tanna\tgood",
    ]
    assert all(recording.path.exists() for recording in read_manifest(path).recordings)


def test_other_lines_stay_as_they_are(clip: Clip, tmp_path: Path) -> None:
    path = tmp_path / "manifest.tsv"
    path.write_text(f"{HEADER}\nbert.wav\t1.0\tbert\tsomething else\nhalf a li")
    ManifestLines(path).add(clip)
    assert path.read_text().splitlines()[:3] == [
        HEADER,
        "bert.wav\t1.0\tbert\tsomething else",
        "half a li",
    ]
    read = read_manifest(path)
    assert [recording.text for recording in read.recordings] == ["something else", "good morning"]
    assert len(read.skipped) == 1


def test_a_clip_that_was_recorded_again_has_one_line(clip: Clip, tmp_path: Path) -> None:
    path = tmp_path / "manifest.tsv"
    ManifestLines(path).add(clip)
    write_clip(clip, np.zeros(RATE_HZ, np.float32))
    ManifestLines(path).add(clip)
    assert path.read_text() == (f"{HEADER}\nanna/good-morning-1.flac\t1.000\tanna\tgood morning\n")


def test_a_file_that_is_no_manifest_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("buy milk\n")
    with pytest.raises(ConfigError, match=r"notes\.txt is not a manifest.*--manifest"):
        ManifestLines(path)
    assert path.read_text() == "buy milk\n"


# ---- The program. ---------------------------------------------------------------------------


class Session:
    """A running ``streamasr record`` that writes into ``folder``."""

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str],
        environment: dict[str, str],
        stdin: int | None,
    ) -> None:
        self.manifest = folder / "manifest.tsv"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamasr", "record", "--out", str(folder), *arguments],
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )

    def finish(self, code: int = 0) -> str:
        """Everything else that it prints; it must end with ``code``."""
        printed, complaints = self.process.communicate(timeout=LIMIT_SECONDS)
        assert self.process.returncode == code, complaints
        return printed if code in (0, 130) else complaints

    def wait_for(self, text: str) -> str:
        """What is printed up to the line with ``text``; pytest's timeout bounds it."""
        assert self.process.stdout is not None
        printed = ""
        for line in self.process.stdout:
            printed += line
            if text in line:
                return printed
        raise AssertionError(f"{text!r} was not printed, but {printed!r}")

    def clips(self) -> dict[str, np.ndarray]:
        """Text -> samples of what the manifest lists."""
        read = read_manifest(self.manifest)
        assert read.skipped == ()
        for recording in read.recordings:
            info = soundfile.info(recording.path)
            assert (info.samplerate, info.channels, info.subtype) == (RATE_HZ, 1, "PCM_16")
            assert info.duration == pytest.approx(recording.duration_seconds, abs=1e-3)
        return {r.text: soundfile.read(r.path, dtype="int16")[0] for r in read.recordings}


Start = Callable[..., Session]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts sessions that write into ``tmp_path / "out"`` and do not outlive the test."""
    sessions: list[Session] = []

    def started(*arguments: str, environment: dict[str, str], stdin: int | None = None) -> Session:
        sessions.append(Session(tmp_path / "out", arguments, environment, stdin))
        return sessions[-1]

    yield started
    for session in sessions:
        session.process.kill()
        session.process.communicate(timeout=LIMIT_SECONDS)


def play(microphone: VirtualMicrophone, path: Path, pcm: np.ndarray) -> None:
    soundfile.write(path, pcm, RATE_HZ)
    microphone.play(path)


def test_what_is_said_is_in_the_clips_sample_for_sample(
    virtual_microphone: VirtualMicrophone, start: Start, tmp_path: Path
) -> None:
    noise = np.random.default_rng(5).integers(-9_000, 9_000, 90 * RATE_HZ, dtype=np.int16)
    play(virtual_microphone, tmp_path / "noise.wav", noise)
    session = start(
        *("yes", "Play some jazz", "--seconds", "1", "--speaker", "anna"),
        environment=virtual_microphone.environment,
    )
    printed = session.finish()
    clips = session.clips()
    assert list(clips) == ["yes", "play some jazz"]
    for samples in clips.values():
        assert len(samples) == RATE_HZ
        starts = np.flatnonzero(noise[:-RATE_HZ] == samples[0])
        assert any(np.array_equal(noise[at : at + RATE_HZ], samples) for at in starts)
    assert "2/2  play some jazz\n   3 …   2 …   1 …   speak\n" in printed
    assert f"{session.manifest}: 2 of 2 clips recorded" in printed
    assert "delete these" not in printed


def test_silence_is_kept_but_reported_and_nothing_is_recorded_twice(
    virtual_microphone: VirtualMicrophone, start: Start, tmp_path: Path
) -> None:
    arguments = ("yes", "--seconds", "0.5", "--takes", "2")
    session = start(*arguments, environment=virtual_microphone.environment)
    printed = session.finish()
    first = tmp_path / "out" / "me" / "yes-1.flac"
    assert "too quiet" in printed.split("2/2")[0]
    report = printed[printed.index("delete these") :]
    assert f"{first}  too quiet" in report
    assert f"{first.with_name('yes-2.flac')}  too quiet" in report
    virtual_microphone.stop()
    before = session.manifest.read_bytes(), first.stat().st_mtime_ns
    again = start(*arguments, environment=virtual_microphone.environment)
    assert again.finish() == f"{session.manifest}: all 2 clips are there\n"
    assert (session.manifest.read_bytes(), first.stat().st_mtime_ns) == before


def test_sound_that_is_too_loud_is_reported(
    virtual_microphone: VirtualMicrophone, start: Start, tmp_path: Path
) -> None:
    square = np.where(np.arange(90 * RATE_HZ) // 40 % 2, 32_767, -32_768).astype(np.int16)
    play(virtual_microphone, tmp_path / "square.wav", square)
    session = start("yes", "--seconds", "0.5", environment=virtual_microphone.environment)
    assert "clipped" in session.finish()


def test_an_interrupted_session_leaves_a_valid_manifest_and_goes_on(
    virtual_microphone: VirtualMicrophone, start: Start, tmp_path: Path
) -> None:
    arguments = ("one", "two", "three", "--seconds", "0.5")
    session = start(*arguments, environment=virtual_microphone.environment)
    session.wait_for("2/3")
    session.process.send_signal(signal.SIGINT)
    printed = session.finish(130)
    assert "1 of 3 clips recorded" in printed
    assert "the same command records the other 2" in printed
    assert list(session.clips()) == ["one"]
    assert [path.name for path in (tmp_path / "out" / "me").iterdir()] == ["one-1.flac"]
    session.manifest.unlink()  # as if it had ended between the clip and its line
    again = start(*arguments, environment=virtual_microphone.environment)
    assert "2 of 2 clips recorded, 1 were there" in again.finish()
    assert list(session.clips()) == ["one", "two", "three"]
    assert session.manifest.read_text().count(HEADER) == 1


def test_on_a_terminal_a_bad_clip_can_be_said_again(
    virtual_microphone: VirtualMicrophone, start: Start, tmp_path: Path
) -> None:
    keyboard, terminal = pty.openpty()
    try:
        session = start(
            *("yes", "no", "--seconds", "0.5"),
            environment=virtual_microphone.environment,
            stdin=terminal,
        )
        os.write(keyboard, b"\nk\nk\n")  # again, keep; keep
        printed = session.finish()
    finally:
        os.close(keyboard)
        os.close(terminal)
    first, second = printed.split("2/2")
    assert first.count("speak") == 2
    assert second.count("speak") == 1
    assert list(session.clips()) == ["yes", "no"]


def test_a_microphone_that_cannot_be_opened_exits_with_3(start: Start, tmp_path: Path) -> None:
    complaint = start("yes", "--device", "kazoo", environment={}).finish(3)
    assert complaint.startswith("streamasr: ")
    assert "microphone" in complaint
    assert complaint.count("\n") == 1
    assert not (tmp_path / "out").exists()
