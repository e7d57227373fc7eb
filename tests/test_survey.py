"""What ``streamasr inspect`` says of a manifest, from real files, whole and broken."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamasr.decoder.lexicon import Lexicon
from streamasr.errors import ConfigError
from streamasr.training.manifest import COLUMNS, Recording
from streamasr.training.survey import MOST_BARS, Survey, survey, write_pictures

LIMIT_SECONDS = 100
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
LEXICON = Lexicon({"good": (("G", "UH", "D"),), "morning": (("M", "AO", "R", "N", "IH", "NG"),)})


@pytest.fixture
def manifest(tmp_path: Path, demo: np.ndarray) -> Path:
    """Three recordings that can be used and one of everything that cannot."""
    for name, seconds in (("a.flac", 1.0), ("b.wav", 2.5), ("c.flac", 1.5)):
        soundfile.write(tmp_path / name, demo[: round(seconds * 16_000)], 16_000)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.float32), 16_000)
    (tmp_path / "text.flac").write_text("this is no audio")
    (tmp_path / "headless.raw").write_bytes(bytes(3_200))
    lines = [
        "\t".join(COLUMNS),
        "a.flac\t1.000\tanna\tgood morning",
        "b.wav\t2.450\tbert\tgood good xylograph",
        "c.flac\t1.200\tanna\tmorning",
        "absent.flac\t1.0\tanna\tgood",
        "empty.wav\t1.0\tanna\tgood",
        "text.flac\t1.0\tanna\tgood",
        "headless.raw\t0.1\tanna\tgood",
        "a.flac\tlong\tanna\tgood",
        "a.flac\t1.0\tanna\ttrack 7",
    ]
    path = tmp_path / "mine.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def of_durations(*seconds: float) -> Survey:
    recordings = tuple(Recording(Path("x"), each, "s", "x") for each in seconds)
    return Survey(Path("x.tsv"), recordings, Counter("x"), Counter(), (), (), ())


def test_figures_are_of_what_can_be_decoded(manifest: Path) -> None:
    surveyed = survey(manifest, LEXICON)
    assert [recording.path.name for recording in surveyed.recordings] == [
        "a.flac",
        "b.wav",
        "c.flac",
    ]
    assert surveyed.hours == pytest.approx(5 / 3600)
    assert [(s.name, s.recordings, s.hours) for s in surveyed.speakers] == [
        ("anna", 2, pytest.approx(2.5 / 3600)),
        ("bert", 1, pytest.approx(2.5 / 3600)),
    ]
    assert surveyed.words == {"good": 3, "morning": 2, "xylograph": 1}
    assert surveyed.missing_words == {"xylograph": 1}


def test_everything_that_is_wrong_is_named(manifest: Path) -> None:
    surveyed = survey(manifest, LEXICON)
    folder = manifest.parent
    assert surveyed.differing == (f"{folder}/c.flac lasts 1.500 s, not 1.200 s",)
    assert surveyed.undecodable == (
        f"{folder}/absent.flac is not there",
        f"{folder}/empty.wav has no samples",
        f"{folder}/text.flac is not audio that can be read: Format not recognised",
        f"{folder}/headless.raw is not audio that can be read: samplerate must be specified",
    )
    assert len(surveyed.skipped) == 2
    assert surveyed.skipped[0].startswith(f"{manifest}:9: ")
    assert surveyed.skipped[1].startswith(f"{manifest}:10: ")


def test_a_duration_that_is_no_number_differs(manifest: Path) -> None:
    manifest.write_text(f"{manifest.read_text().splitlines()[0]}\na.flac\tnan\tanna\tgood\n")
    assert survey(manifest, LEXICON).differing == (
        f"{manifest.parent}/a.flac lasts 1.000 s, not nan s",
    )


@pytest.mark.parametrize(
    ("seconds", "bars"),
    [
        ((), []),
        ((0.05, 0.1, 0.3), [(0.0, 0.1, 1), (0.1, 0.2, 1), (0.3, 0.4, 1)]),
        ((4.9, 5.0, 9.0), [(4.5, 5.0, 1), (5.0, 5.5, 1), (9.0, 9.5, 1)]),
    ],
)
def test_the_histogram_counts_each_recording_once(
    seconds: tuple[float, ...], bars: list[tuple[float, float, int]]
) -> None:
    assert [bar for bar in of_durations(*seconds).durations if bar.recordings] == bars


@pytest.mark.parametrize("longest", [0.01, 1.0, 2.0, 19.99, 20.0, 3_600.0, 12_000.0, 1e6])
def test_the_histogram_has_not_too_many_bars(longest: float) -> None:
    durations = of_durations(0.0, longest).durations
    assert len(durations) <= MOST_BARS
    assert durations[-1].from_seconds <= longest < durations[-1].to_seconds
    assert sum(bar.recordings for bar in durations) == 2


def test_pictures_are_written_even_of_next_to_nothing(manifest: Path, tmp_path: Path) -> None:
    whole = survey(manifest, LEXICON)
    damaged = Recording(manifest.parent / "text.flac", 1.0, "$x$", "good")
    pixel_counts = []
    for number, recordings in enumerate([whole.recordings, (damaged,), ()]):
        surveyed = replace(whole, recordings=recordings)
        pictures = write_pictures(surveyed, tmp_path / f"pictures{number}")
        assert [p.name for p in pictures] == ["durations.png", "words.png", "spectrograms.png"]
        assert all(picture.read_bytes().startswith(PNG_MAGIC) for picture in pictures)
        pixel_counts.append(pictures[-1].stat().st_size)
    assert pixel_counts[0] > 5 * pixel_counts[1], "the spectrograms are not drawn"


def test_a_folder_that_cannot_be_written_is_named(manifest: Path) -> None:
    with pytest.raises(ConfigError, match=r"kept in .*a\.flac: File exists"):
        write_pictures(survey(manifest, LEXICON), manifest.parent / "a.flac")


def inspect(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "streamasr", "inspect", *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


def test_the_command_prints_tables_and_writes_pictures(manifest: Path, tmp_path: Path) -> None:
    done = inspect(str(manifest), "--out", str(tmp_path / "pictures"))
    assert (done.returncode, done.stderr) == (0, "")
    shown = " ".join(done.stdout.replace("│", " ").split())
    for expected in (
        "recordings 3",
        "speakers 2",
        "distinct words 3",
        "lines skipped 2",
        "files that cannot be decoded 4",
        "anna 2 0.001",
        "good 3",
        f"{tmp_path}/absent.flac is not there",
        f"{manifest}:9:",
        "c.flac lasts 1.500 s, not 1.200 s",
        f"{tmp_path}/pictures/spectrograms.png",
    ):
        assert expected in shown
    assert "█" in shown


def test_the_command_prints_one_json_object(manifest: Path) -> None:
    done = inspect(str(manifest), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["recordings"] == 3
    assert found["hours"] == 0.001
    assert found["speakers"][0] == {"name": "anna", "recordings": 2, "hours": 0.0007}
    assert sum(bar["recordings"] for bar in found["durations"]) == 3
    assert (found["words"], found["distinct_words"]) == (6, 3)
    assert found["frequent_words"] == {"good": 3, "morning": 2, "xylograph": 1}
    assert len(found["skipped"]) == 2
    assert len(found["undecodable"]) == 4
    assert len(found["differing_durations"]) == 1


def test_a_manifest_without_recordings_is_refused_in_one_line(tmp_path: Path) -> None:
    empty = tmp_path / "empty.tsv"
    empty.write_text("\t".join(COLUMNS) + "\n")
    done = inspect(str(empty))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"streamasr: manifest {empty} has no usable line\n"
