"""The tutorials' networks: each trains, is kept and is scored by the usual commands."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from streamasr.errors import CheckpointError
from streamasr.training.baselines import (
    SHAPES,
    WORD_CLASSIFIER,
    Transcriber,
    WordClassifier,
    load_baseline,
)
from streamasr.training.manifest import COLUMNS
from streamasr.training.options import NETWORKS, STREAMING


@pytest.fixture
def manifest(tmp_path: Path, demo: np.ndarray) -> Path:
    """Four clips of a second, two words."""
    lines = ["\t".join(COLUMNS)]
    for number, text in enumerate(["yes", "no", "yes", "no"]):
        soundfile.write(tmp_path / f"{number}.flac", demo[number * 20_000 :][:16_000], 16_000)
        lines.append(f"{number}.flac\t1.0\ts{number}\t{text}")
    path = tmp_path / "train.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def run(*arguments: str) -> str:
    program = [sys.executable, "-m", "streamasr", *arguments]
    return subprocess.run(program, capture_output=True, text=True, timeout=100, check=True).stdout


def test_every_network_has_a_flag() -> None:
    assert {STREAMING, WORD_CLASSIFIER, *SHAPES} == set(NETWORKS)


@pytest.mark.parametrize("network", [WORD_CLASSIFIER, "cnn-resnet-bigru"])
def test_one_command_trains_it_and_another_scores_it(
    manifest: Path, tmp_path: Path, network: str
) -> None:
    out = tmp_path / "run"
    run(
        "train", str(manifest), "--dev", str(manifest), "--network", network, "--out", str(out),
        "--epochs", "1", "--processes", "1", "--log-every", "1",
    )  # fmt: skip
    checkpoint = str(out / "best.safetensors")
    figures = json.loads(run("evaluate", str(manifest), "--checkpoint", checkpoint, "--json"))
    assert figures["utterances"] == 4
    assert figures["rtf"] > 0
    assert figures["latency_ms"] > 0
    words = tmp_path / "words.txt"
    words.write_text("yes\nno\n")
    program = [sys.executable, "-m", "streamasr", "evaluate", str(manifest)]
    held = [*program, "--checkpoint", checkpoint, "--phrases", str(words)]
    refused = subprocess.run(held, capture_output=True, text=True, timeout=100)
    assert refused.returncode == 2
    assert "cannot be held to --phrases" in refused.stderr
    if network == WORD_CLASSIFIER:
        network_found = load_baseline(Path(checkpoint))
        assert isinstance(network_found, WordClassifier)
        assert network_found.words == ("no", "yes")


@pytest.mark.parametrize("name", SHAPES)
def test_a_transcriber_gives_a_distribution_for_every_step(name: str) -> None:
    network = Transcriber(SHAPES[name]).eval()
    frames = torch.randn(2, 101, SHAPES[name].mels)
    log_probs = network(frames)
    assert log_probs.shape == (2, network.steps(101), 29)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, network.steps(101)))


def test_a_classifier_hears_clips_of_any_length() -> None:
    network = WordClassifier(("no", "yes")).eval()
    for frames in (1, 99, 100, 250):
        assert network.text(np.zeros((frames, 80), np.float32)) in ("no", "yes")


def test_other_files_are_no_baselines(tmp_path: Path) -> None:
    assert load_baseline(tmp_path / "missing.safetensors") is None
    assert load_baseline(Path(__file__)) is None


def test_a_damaged_baseline_is_named(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "bad.safetensors"
    about = json.dumps({"network": "cnn-lstm", "shape": {"mels": 80}})
    save_file({"x": torch.zeros(1)}, path, {"streamasr baseline 1": about})
    with pytest.raises(CheckpointError, match="is damaged"):
        load_baseline(path)
