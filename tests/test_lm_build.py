"""``lm/build.py`` from end to end, on texts of a few lines and the bundled recording."""

import lzma
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamasr.decoder.lexicon import Lexicon
from streamasr.decoder.ngram import NgramModel
from streamasr.training.kenlm_tools import installed_tools
from streamasr.training.manifest import COLUMNS

SCRIPT = Path(__file__).parents[1] / "lm" / "build.py"
SENTENCE = "good morning the kettle is on and the rain has stopped at last"
LINES = (SENTENCE, "the rain is on the kettle", "has the snarfblatt stopped", "good rain")
COPIES = 15

pytestmark = [
    pytest.mark.skipif(installed_tools() is None, reason="no lmplz yet: lm/build.py compiles it"),
    pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed"),
]


@pytest.fixture
def folders(tmp_path: Path, demo: np.ndarray) -> Path:
    """``text`` and ``speech`` as ../shared has them."""
    text = tmp_path / "text"
    text.mkdir()
    (text / "books.txt.xz").write_bytes(lzma.compress(("\n".join(LINES * COPIES) + "\n").encode()))
    (text / "commands.txt").write_text("stop the rain\nis the kettle on\n" * COPIES)
    (text / "cmudict.txt.xz").write_bytes(lzma.compress(b"the DH AH\nrain R EY N\n"))
    for corpus in ("librispeech", "speechocean"):
        folder = tmp_path / "speech" / corpus
        folder.mkdir(parents=True)
        soundfile.write(folder / "first.flac", demo[:96_000], 16_000)
        for name in ("train", "dev"):
            row = f"first.flac\t6.0\trms\t{SENTENCE}"
            (folder / f"{name}.tsv").write_text("\t".join(COLUMNS) + f"\n{row}\n{row}\n")
    return tmp_path


def build(folders: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    given = ["--text", folders / "text", "--speech", folders / "speech", "--output", folders / "lm"]
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, given), *arguments],
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_models_are_built_compared_and_kept(folders: Path) -> None:
    shipped = build(folders)
    assert shipped.returncode == 0, shipped.stderr
    lexicon = Lexicon.load(folders / "lm" / "lexicon.txt.xz")
    model = NgramModel.load(folders / "lm" / "english.kenlm")
    assert {"snarfblatt", "kettle", "q"} <= lexicon.keys()
    assert "kettle" in model
    assert model.order == 4
    assert "| librispeech dev |" in shipped.stdout

    keep = folders / "keep"
    compared = build(folders, "--compare", "--every", "2", "--keep", str(keep))
    assert compared.returncode == 0, compared.stderr
    head, _, *rows, last = compared.stdout.splitlines()
    assert {"| MB |", "| load s |", "| WER librispeech 1/2 |"} <= {
        f"| {column} |" for column in head.strip("| ").split(" | ")
    }
    assert {row.count("|") for row in rows} == {head.count("|")}
    kept = {path: path.stat().st_mtime_ns for path in keep.iterdir()}
    assert len(kept) == len(rows) == 6
    assert "librispeech 1/2: 1 recordings, speechocean 1/2: 1 recordings" in last

    again = build(folders, "--compare", "--every", "2", "--keep", str(keep))
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in keep.iterdir()} == kept


def test_a_lexicon_of_other_texts_is_refused(folders: Path) -> None:
    (folders / "lm").mkdir()
    Lexicon({"rain": (("R", "EY", "N"),)}).save(folders / "lm" / "lexicon.txt.xz")
    refused = build(folders, "--compare")
    assert refused.returncode == 1
    assert "the texts have other words than the lexicon" in refused.stderr
    assert refused.stderr.count("\n") == 1
