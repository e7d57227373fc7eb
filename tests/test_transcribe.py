"""Subtitles from events, and the real command on good and bad files."""

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from streamasr.captions import subtitles
from streamasr.events import Final, Word

DEMO = Path(__file__).parent / "recordings" / "demo.flac"


def final(text: str, start: float = 0.0, word_seconds: float = 0.3) -> Final:
    words = tuple(
        Word(word, start + number * word_seconds, start + (number + 1) * word_seconds, 0.9)
        for number, word in enumerate(text.split())
    )
    return Final(0, text, words[0].start_seconds, words[-1].end_seconds, words, 0.9, (), "silence")


def test_cues_have_short_lines_and_never_overlap() -> None:
    text = " ".join(["seventeen", "words", "of", "different", "lengths"] * 12)
    cues = list(subtitles.cues([final(text), final("the end", start=30.0)]))
    assert " ".join(line for cue in cues for line in cue.lines) == f"{text} the end"
    for cue in cues:
        assert len(cue.lines) <= subtitles.CUE_LINES
        assert all(len(line) <= subtitles.LINE_CHARACTERS for line in cue.lines)
        assert cue.end_seconds - cue.start_seconds <= subtitles.CUE_SECONDS
    for cue, after in itertools.pairwise(cues):
        assert cue.end_seconds <= after.start_seconds


def test_a_word_longer_than_a_line_has_its_own() -> None:
    long = "x" * 60
    assert [cue.lines for cue in subtitles.cues([final(f"a {long} b")])] == [("a", long), ("b",)]


def test_srt_and_vtt_blocks() -> None:
    cue = subtitles.Cue(3661.5, 3662.25, ("one", "two"))
    assert subtitles.srt(7, cue) == "7\n01:01:01,500 --> 01:01:02,250\none\ntwo\n\n"
    assert subtitles.vtt(cue) == "01:01:01.500 --> 01:01:02.250\none\ntwo\n\n"


def transcribe(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "streamasr", "transcribe", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bad")
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("dear diary")
    return {
        "missing": folder / "missing.wav",
        "empty": folder / "empty.wav",
        "text": folder / "text.wav",
    }


def test_json_and_errors_in_one_run(bad_files: dict[str, Path]) -> None:
    """Each bad file is one line on standard error; the good one between is heard."""
    done = transcribe(bad_files["missing"], DEMO, *bad_files.values(), "--format", "json")
    assert done.returncode == 3
    complaints = done.stderr.splitlines()
    assert len(complaints) == 4
    assert all(line.startswith("streamasr: ") for line in complaints)
    assert "Traceback" not in done.stderr
    (line,) = done.stdout.splitlines()
    heard = json.loads(line)
    assert heard["path"] == str(DEMO)
    assert heard["text"].split() == [word["word"] for word in heard["words"]]
    assert heard["words"][0].keys() == {"word", "start", "end", "confidence"}
    assert 20 < heard["audio_seconds"] < 35
    assert heard["compute_seconds"] > 0


@pytest.mark.parametrize("format_", ["srt", "vtt"])
def test_subtitle_files_are_well_formed(format_: str) -> None:
    done = transcribe(DEMO, "--format", format_)
    assert done.returncode == 0
    body = done.stdout
    if format_ == "vtt":
        assert body.startswith("WEBVTT\n\n")
        body = body.removeprefix("WEBVTT\n\n")
    point = "," if format_ == "srt" else r"\."
    clock = rf"\d\d:\d\d:\d\d{point}\d\d\d"
    number = r"\d+\n" if format_ == "srt" else ""
    assert re.fullmatch(rf"({number}{clock} --> {clock}\n([^\n]+\n){{1,2}}\n)+", body)
