"""The real command on good and bad files."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from tests.subtitle_player import assert_monotonic, packets

DEMO = Path(__file__).parent / "recordings" / "demo.flac"


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


@pytest.mark.parametrize("format_", ["srt", "vtt"])
def test_several_files_make_one_subtitle_file(
    format_: str, bad_files: dict[str, Path], demo_wav: Path, tmp_path: Path
) -> None:
    """The second recording begins where the audio of the first one has ended."""
    done = transcribe(demo_wav, bad_files["text"], demo_wav, "--format", format_)
    assert done.returncode == 3
    path = tmp_path / f"demo.{format_}"
    path.write_text(done.stdout)
    shown = packets(path)
    assert_monotonic(shown)
    half = len(shown) // 2
    assert len(shown) == 2 * half
    demo_seconds = soundfile.info(demo_wav).duration
    for (start, _), (again, _) in zip(shown[:half], shown[half:], strict=True):
        assert again == pytest.approx(start + demo_seconds, abs=0.002)
