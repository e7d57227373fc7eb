"""Names that no dictionary has, spoken by synthesizers, heard by who expects them.

``hot_sentences.txt`` has a sentence for each name of ``hot_phrases.txt``.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from streamasr.config import shipped
from streamasr.decoder.lexicon import Lexicon

HERE = Path(__file__).parent
NAMES, SENTENCES = HERE / "hot_phrases.txt", HERE / "hot_sentences.txt"
EVERY = 4

needs_espeak = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="espeak-ng speaks the sentences"
)


def streamasr(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "streamasr", *arguments],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_name_has_a_word_outside_the_vocabulary_and_a_sentence() -> None:
    lexicon = Lexicon.load(shipped("lm", "lexicon.txt.xz"))
    names, sentences = NAMES.read_text().splitlines(), SENTENCES.read_text().splitlines()
    assert len(names) == len(sentences) == 100
    for name, sentence in zip(names, sentences, strict=True):
        assert f" {name} " in f" {sentence} "
        assert any(word not in lexicon for word in name.split())


@needs_espeak
def test_three_times_as_many_names_are_heard(tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(SENTENCES.read_text().splitlines()[::EVERY]))
    streamasr("synthesize", str(lines), "--out", str(tmp_path), "--voices", "espeak", "--seed", "3")
    evaluate = ("evaluate", str(tmp_path / "manifest.tsv"), "--look-for", str(NAMES), "--json")
    without = json.loads(streamasr(*evaluate))
    expected = json.loads(streamasr(*evaluate, "--hot-phrases", str(NAMES)))
    assert without["utterances"] == expected["utterances"] == 100 // EVERY
    assert expected["phrase_recall"] >= max(0.6, 3 * without["phrase_recall"])
    assert expected["wer"] < without["wer"]
