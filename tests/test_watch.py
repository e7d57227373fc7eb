"""``streamasr live`` on real recordings, with the models that are shipped."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamasr.cli import main
from streamasr.config import shipped
from streamasr.decoder.lexicon import Lexicon
from streamasr.errors import ConfigError
from streamasr.events import Final, Partial
from streamasr.recognizer import Recognizer
from streamasr.training.live import SaidWord
from streamasr.training.manifest import COLUMNS, read_manifest, read_samples
from streamasr.training.watch import TIMES_COLUMNS, place_words, read_times, watch

RECORDINGS = Path(__file__).parent / "recordings"
SPEECH = Path(__file__).parents[2] / "shared" / "speech"
SENTENCE = "good morning the kettle is on and the rain has stopped at last"


@pytest.fixture
def manifest(tmp_path: Path, demo: np.ndarray) -> Path:
    """The first sentence three times; the lexicon lacks a word of the second one's text, and
    the third one is no audio."""
    path = tmp_path / "dev.tsv"
    lines = ["\t".join(COLUMNS)]
    for number, text in enumerate((SENTENCE, f"{SENTENCE} xyzzyq", SENTENCE)):
        soundfile.write(tmp_path / f"{number}.flac", demo[:96_000], 16_000)
        lines.append(f"{number}.flac\t6.0\trms\t{text}")
    (tmp_path / "2.flac").write_text("this is no audio")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_command_prints_what_viewers_see(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "reliability.png"
    eager = tmp_path / "eager.toml"  # shows what it is unsure of, so that words flicker
    eager.write_text("[decoder]\npartial_share = 0.0\nlm_weight = 0.3\n")
    command = ["live", str(manifest), "--json", "--config", str(eager)]
    assert main([*command, "--reliability", str(picture)]) == 0
    printed = capsys.readouterr()
    figures = json.loads(printed.out)
    assert (figures["recordings"], figures["skipped"], figures["audio_seconds"]) == (2, 1, 12.0)
    assert figures["stable_text_violations"] == 0
    assert 0 < figures["unstable_partial_word_ratio"] < 2
    assert 20 <= figures["right_words"] <= figures["words"] <= 30
    assert figures["unplaced_words"] == 14
    delays = figures["first_partial_delay_ms"], figures["stable_delay_ms"]
    assert 0 < delays[0]["p50"] < 1000
    assert delays[0]["p50"] < delays[1]["p50"] < 4000
    assert figures["word_start_error_ms"]["p50"] < 300
    assert 0 < figures["calibration_error"] < 1
    assert "lexicon lacks xyzzyq" in printed.err
    assert "2.flac cannot be read as audio" in printed.err
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_command_prints_a_table_of_a_part(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["live", str(manifest), "--every", "2", "--limit", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| figure | value |"
    assert "| recordings | 1 |" in lines
    assert "| unplaced_words | 0 |" in lines


def test_times_of_another_aligner_are_taken(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times = tmp_path / "times.tsv"
    rows = [f"0.flac\t{word}\t60.0\t61.0" for word in SENTENCE.split()]
    rows += ["1.flac\tgood\t0.0\t1.0"]
    times.write_text("\n".join(["\t".join(TIMES_COLUMNS), *rows]) + "\n")
    assert main(["live", str(manifest), "--limit", "2", "--times", str(times), "--json"]) == 0
    printed = capsys.readouterr()
    figures = json.loads(printed.out)
    assert figures["unplaced_words"] == 14
    assert -60_000 < figures["word_start_error_ms"]["signed_p50"] < -54_000
    assert figures["stable_delay_ms"]["p90"] < -50_000
    assert "1.flac: no times of its words: the file of times has other words" in printed.err


def test_times_are_read_relative_to_their_file(tmp_path: Path) -> None:
    path = tmp_path / "times.tsv"
    path.write_text("\t".join(TIMES_COLUMNS) + "\na/b.flac\tthe\t0.5\t0.75\na/b.flac\tcat\t1\t2\n")
    expected = [SaidWord("the", 0.5, 0.75), SaidWord("cat", 1.0, 2.0)]
    assert read_times(path) == {tmp_path / "a" / "b.flac": expected}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "must begin with the header line path word start_seconds end_seconds"),
        ("path\tword\n", "must begin with the header line"),
        ("\t".join(TIMES_COLUMNS) + "\na.flac\tthe\t0.5\n", r"times.tsv:2: must be path word"),
        ("\t".join(TIMES_COLUMNS) + "\na.flac\tthe\t0.5\tlate\n", r"times.tsv:2: must be path"),
    ],
)
def test_useless_times_are_refused(tmp_path: Path, content: str, named: str) -> None:
    path = tmp_path / "times.tsv"
    path.write_text(content)
    with pytest.raises(ConfigError, match=named):
        read_times(path)
    with pytest.raises(ConfigError, match=r"absent\.tsv cannot be read"):
        read_times(tmp_path / "absent.tsv")


@pytest.mark.parametrize("option", ["--every", "--limit"])
def test_no_recording_is_refused(
    manifest: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert main(["live", str(manifest), option, "0"]) == 2
    assert "--every and --limit must be at least 1" in capsys.readouterr().err


def test_recordings_that_are_all_damaged_are_refused(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (0, 1):
        (manifest.parent / f"{number}.flac").write_text("this is no audio either")
    assert main(["live", str(manifest)]) == 2
    assert "none of the recordings can be decoded" in capsys.readouterr().err


def test_every_event_is_shown_when_its_packet_was_fed(
    recognizer: Recognizer, demo: np.ndarray
) -> None:
    samples = demo[:80_000]  # cut off while somebody speaks
    shown = watch(recognizer, samples)
    stream = recognizer.stream()
    events = stream.feed(samples)
    first = [each.event for each in shown if each.audio_seconds <= 5.0]
    assert first == events
    seconds = [each.audio_seconds for each in shown]
    assert seconds == sorted(seconds)
    assert {round(10 * each, 6) % 1 for each in seconds} == {0.0}
    finals = [each for each in shown if isinstance(each.event, Final)]
    assert [final.event.end_reason for final in finals] == ["silence"]
    for each in shown:
        if isinstance(each.event, Partial):
            assert each.event.end_seconds <= each.audio_seconds


def test_words_are_placed_in_order_and_within_the_recording(
    recognizer: Recognizer, demo: np.ndarray
) -> None:
    lexicon = Lexicon.load(shipped("lm", "lexicon.txt.xz"))
    said = place_words(recognizer, demo[:96_000], SENTENCE.split(), lexicon)
    assert [each.word for each in said] == SENTENCE.split()
    times = [time for each in said for time in (each.start_seconds, each.end_seconds)]
    assert times == sorted(times)
    assert 0.3 < times[0] < 1.2  # 0.6 s of silence come first
    assert 3.5 < times[-1] < 6.0
    with pytest.raises(ValueError, match="the lexicon lacks xyzzyq"):
        place_words(recognizer, demo[:96_000], ["good", "xyzzyq"], lexicon)
    with pytest.raises(ValueError, match="do not fit"):
        place_words(recognizer, demo[:3_200], SENTENCE.split(), lexicon)


def real_recordings() -> list[Path]:
    """The bundled one, and from all over the dev corpora where they are there."""
    corpora = ("librispeech", "speechocean", "an4")
    manifests = [SPEECH / corpus / "dev.tsv" for corpus in corpora]
    found = [read_manifest(path).recordings for path in manifests if path.exists()]
    paths = [each.path for recordings in found for each in recordings[:: len(recordings) // 4]]
    return [RECORDINGS / "demo.flac", *paths]


@pytest.mark.parametrize("path", real_recordings(), ids=lambda path: path.stem)
def test_no_later_event_revises_stable_text(recognizer: Recognizer, path: Path) -> None:
    draw = random.Random(path.stem)
    samples = read_samples(path, recognizer.sample_rate_hz)
    stream = recognizer.stream()
    events = []
    first = 0
    while first < len(samples):
        size = draw.choice([1, 160, 1600, 2560, 2561, 16_000, draw.randrange(1, 9000)])
        events += stream.feed(samples[first : first + size])
        first += size
    promised: dict[int, list[list[str]]] = {}
    for event in events + stream.finish():
        if isinstance(event, Partial | Final):
            earlier = promised.setdefault(event.utterance, [])
            if isinstance(event, Partial):
                earlier.append(event.stable_text.split())
            for stable in earlier:
                assert event.text.split()[: len(stable)] == stable
    if path.parent == RECORDINGS:  # a short one may end before anything is stable
        assert sum(stable != [] for earlier in promised.values() for stable in earlier) > 5
