"""Learning what confidences and word times mean."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from streamasr.acoustic.checkpoint import load_checkpoint
from streamasr.config import shipped
from streamasr.training.calibrate import fit

RECORDINGS = Path(__file__).parent / "recordings"


def test_a_regression_finds_the_weights_that_made_the_data() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(0, 2, (20_000, 2))
    chances = 1 / (1 + np.exp(-(0.5 + 0.4 * rows[:, 0] - 0.7 * rows[:, 1])))
    right = random.random(len(rows)) < chances
    found = fit([tuple(row) for row in rows.tolist()], right.tolist())
    assert found == pytest.approx((0.5, 0.4, -0.7), abs=0.06)


def manifest(folder: Path, text: str) -> Path:
    path = folder / "manifest.tsv"
    path.write_text(
        f"path\tduration_seconds\tspeaker\ttext\n{RECORDINGS / 'demo.flac'}\t31\tme\t{text}\n"
    )
    return path


def calibrate(*arguments: Path | str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streamasr", "calibrate", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_a_checkpoint_gets_confidences_and_times(tmp_path: Path) -> None:
    words = (RECORDINGS / "demo.txt").read_text().split()
    said = manifest(tmp_path, " ".join(words))
    audio = RECORDINGS / "demo.flac"
    times = tmp_path / "times.tsv"
    lines = [f"{audio}\t{word}\t{10 + i}\t{10.5 + i}" for i, word in enumerate(words)]
    times.write_text("\n".join(["path\tword\tstart_seconds\tend_seconds", *lines]) + "\n")
    out = tmp_path / "new.safetensors"
    done = calibrate(said, "--times", times, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    old, new = load_checkpoint(shipped("checkpoints", "english.safetensors")), load_checkpoint(out)
    assert list(new.confidence) == told["confidence"] != list(old.confidence)
    assert list(new.word_shift_seconds) == told["word_shift_seconds"]
    assert new.word_shift_seconds[0] > 5  # the times above are as far away
    assert new.figures == old.figures


def test_words_that_are_all_wrong_teach_nothing(tmp_path: Path) -> None:
    done = calibrate(manifest(tmp_path, "zyzzyva"), "--out", tmp_path / "new.safetensors")
    assert done.returncode == 2
    assert "words that are right and words that are wrong" in done.stderr
    assert not (tmp_path / "new.safetensors").exists()
