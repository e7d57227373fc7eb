import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamasr.errors import ConfigError
from streamasr.recognizer import Recognizer
from streamasr.training.error_rate import ErrorRate, equal_pairs
from streamasr.training.evaluate import evaluate, offline_reader, streaming_reader
from streamasr.training.manifest import COLUMNS, read_manifest

SPEECH = Path(__file__).parents[2] / "shared" / "speech"
FIRST_SENTENCE = "good morning the kettle is on and the rain has stopped at last"


@pytest.fixture
def manifest(tmp_path: Path, demo: np.ndarray) -> Path:
    soundfile.write(tmp_path / "first.flac", demo[:96_000], 16_000)
    path = tmp_path / "dev.tsv"
    path.write_text("\t".join(COLUMNS) + f"\nfirst.flac\t6.0\trms\t{FIRST_SENTENCE}\n")
    return path


def test_errors_are_added_up_over_utterances() -> None:
    words = ErrorRate()
    assert words.rate == 0
    words.add(["a", "b", "c"], ["a", "x", "c", "d"])
    words.add(["a"], ["a"])
    assert (words.edits, words.length, words.rate) == (2, 4, 0.5)


@pytest.mark.parametrize(
    ("said", "heard", "pairs"),
    [
        ("a b c", "a b c", [(0, 0), (1, 1), (2, 2)]),
        ("a b c", "a x c", [(0, 0), (2, 2)]),
        ("a b c", "b c d", [(1, 0), (2, 1)]),
        ("a b", "x a y b z", [(0, 1), (1, 3)]),
        ("a b", "b a x y", [(0, 1)]),
        ("a b", "", []),
        ("", "a", []),
    ],
)
def test_equal_words_are_paired_in_order(
    said: str, heard: str, pairs: list[tuple[int, int]]
) -> None:
    assert equal_pairs(said.split(), heard.split()) == pairs


def test_figures_of_the_bundled_sentence(recognizer: Recognizer, manifest: Path) -> None:
    figures = evaluate(streaming_reader(recognizer), read_manifest(manifest).recordings)
    assert figures.utterances == 1
    assert figures.skipped == 0
    assert figures.audio_seconds == 6.0
    assert figures.wer <= 0.3
    assert 0 <= figures.cer <= 1
    assert figures.rtf > 0
    assert 0 < figures.latency_ms < 6000


def test_what_cannot_be_decoded_is_named_and_counted(
    recognizer: Recognizer, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with manifest.open("a") as file:
        file.write(f"broken.flac\t1.0\ts\thello\nfirst.flac\t6.0\trms\t{FIRST_SENTENCE}\n")
    (manifest.parent / "broken.flac").write_text("no audio")
    reader = streaming_reader(recognizer)
    recordings = read_manifest(manifest).recordings
    figures = evaluate(reader, recordings, skipped=["dev.tsv:9: has 1 fields, not 4"])
    assert (figures.utterances, figures.skipped) == (2, 2)
    named = capsys.readouterr().err
    assert "broken.flac" in named
    assert "dev.tsv:9" in named
    with pytest.raises(ConfigError, match="none of the recordings"):
        evaluate(reader, recordings[1:2])


def test_offline_hears_what_streaming_hears(recognizer: Recognizer, demo: np.ndarray) -> None:
    samples = demo[:96_000]
    streaming = streaming_reader(recognizer)(samples)
    offline = offline_reader(recognizer)(samples)
    assert offline.text == streaming.text
    assert offline.greedy == streaming.greedy
    assert streaming.wait_seconds < streaming.compute_seconds
    assert offline.wait_seconds == offline.compute_seconds


def test_greedy_text_needs_no_lexicon(recognizer: Recognizer, demo: np.ndarray) -> None:
    text = offline_reader(recognizer)(demo[:80_000]).greedy
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyz' ")
    assert text == " ".join(text.split())
    assert text


def test_the_command_prints_one_json_object(manifest: Path, tmp_path: Path) -> None:
    phrases = tmp_path / "phrases.txt"
    phrases.write_text(f"{FIRST_SENTENCE}\nsomething else entirely\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "streamasr",
            "evaluate",
            str(manifest),
            "--json",
            "--phrases",
            str(phrases),
            "--limit",
            "1",
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    figures = json.loads(done.stdout)
    assert {"wer", "cer", "greedy_wer", "utterances", "audio_seconds", "rtf"} <= figures.keys()
    assert figures["accuracy"] == 1.0


@pytest.mark.skipif(not SPEECH.exists(), reason="no ../shared/speech beside the project")
def test_real_speakers_are_understood_better_than_not(recognizer: Recognizer) -> None:
    manifest = read_manifest(SPEECH / "librispeech" / "dev.tsv")
    figures = evaluate(streaming_reader(recognizer), manifest.recordings[::25])
    assert figures.wer < 0.6
