import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamasr.recognizer import Recognizer
from streamasr.training.evaluate import evaluate, greedy_text, word_errors
from streamasr.training.manifest import COLUMNS, read_manifest

SPEECH = Path(__file__).parents[2] / "shared" / "speech"
FIRST_SENTENCE = "good morning the kettle is on and the rain has stopped at last"


@pytest.fixture
def manifest(tmp_path: Path, demo: np.ndarray) -> Path:
    soundfile.write(tmp_path / "first.flac", demo[:96_000], 16_000)
    path = tmp_path / "dev.tsv"
    path.write_text("\t".join(COLUMNS) + f"\nfirst.flac\t6.0\trms\t{FIRST_SENTENCE}\n")
    return path


def test_errors_are_counted_in_words() -> None:
    assert word_errors(["a", "b", "c"], ["a", "x", "c", "d"]) == 2
    assert word_errors([], []) == 0


def test_figures_of_the_bundled_sentence(recognizer: Recognizer, manifest: Path) -> None:
    figures = evaluate(recognizer, read_manifest(manifest).recordings)
    assert figures.utterances == 1
    assert figures.audio_seconds == 6.0
    assert figures.wer <= 0.3
    assert 0 <= figures.cer <= 1
    assert figures.rtf > 0


def test_greedy_text_needs_no_lexicon(recognizer: Recognizer, demo: np.ndarray) -> None:
    text = greedy_text(recognizer, demo[:80_000])
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
    figures = evaluate(recognizer, manifest.recordings[::25])
    assert figures.wer < 0.6
