"""Training on a handful of clips cut from the bundled recording."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamasr.acoustic.checkpoint import load_checkpoint
from streamasr.config import FeatureConfig
from streamasr.errors import ConfigError
from streamasr.training.augment import AugmentConfig, augment
from streamasr.training.features import SPEEDS, open_features
from streamasr.training.manifest import COLUMNS, read_manifest
from streamasr.training.options import TrainConfig
from streamasr.training.train import learning_rate, train


@pytest.fixture
def manifest(tmp_path: Path, demo: np.ndarray) -> Path:
    """Six clips of one to two seconds; the texts only need to be words."""
    lines = ["\t".join(COLUMNS)]
    for number, text in enumerate(["good morning", "the rain", "no", "yes", "open it", "a cat"]):
        first = number * 30_000
        clip = demo[first : first + 16_000 + 3_000 * number]
        soundfile.write(tmp_path / f"{number}.flac", clip, 16_000)
        lines.append(f"{number}.flac\t{len(clip) / 16_000}\ts{number}\t{text}")
    path = tmp_path / "train.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def config(tmp_path: Path, manifest: Path) -> TrainConfig:
    return TrainConfig(
        manifests=(manifest,),
        shares=(1.0,),
        dev_manifests=(manifest,),
        noise=None,
        lexicon=None,
        folder=tmp_path / "run",
        features=tmp_path / "features",
        width=16,
        conv_layers=1,
        gru_layers=1,
        epochs=3,
        decay_epochs=0.001,
        warmup_updates=2,
        learning_rate=5e-3,
        batch_seconds=3.0,
        processes=1,
    )


def epochs(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if name.endswith(("_loss", "_error"))}
        for line in lines
        if line["event"] == "epoch"
    ]


def test_loss_falls_and_the_best_is_kept(config: TrainConfig) -> None:
    train(replace(config, epochs=6))
    history = epochs(config.folder)
    losses = [value for each in history for name, value in each.items() if name.endswith("_loss")]
    assert losses[-1] < losses[0]
    checkpoint = load_checkpoint(config.folder / "best.safetensors")
    assert checkpoint.network.config.width == 16
    assert checkpoint.provenance["updates"] > 0
    assert str(config.folder) not in json.dumps(checkpoint.provenance)


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(config: TrainConfig) -> None:
    train(config)
    stopped = replace(config, folder=config.folder.with_name("stopped"))
    train(replace(stopped, epochs=1))
    train(stopped)
    assert epochs(stopped.folder) == epochs(config.folder)


def test_two_processes_learn_what_one_does(config: TrainConfig) -> None:
    train(replace(config, epochs=1, dropout=0.0))
    shared = replace(config, folder=config.folder.with_name("shared"), processes=2, epochs=1)
    train(replace(shared, dropout=0.0))
    alone, together = epochs(config.folder)[0], epochs(shared.folder)[0]
    assert together.keys() == alone.keys()
    for name in (name for name in alone if name.endswith("_loss")):
        assert together[name] == pytest.approx(alone[name], rel=0.02)


def test_a_clip_that_cannot_be_read_is_named_and_skipped(config: TrainConfig) -> None:
    manifest = config.manifests[0]
    (manifest.parent / "2.flac").write_text("this is no audio")
    store = open_features([read_manifest(manifest)], FeatureConfig(), config.features, processes=1)
    assert len(store.utterances) == 5 * len(SPEEDS)
    assert len(store.skipped) == 1
    assert "2.flac" in store.skipped[0]


def test_features_are_computed_once(config: TrainConfig) -> None:
    manifest = read_manifest(config.manifests[0])
    first = open_features([manifest], FeatureConfig(), config.features, processes=1)
    (config.manifests[0].parent / "0.flac").unlink()
    again = open_features([manifest], FeatureConfig(), config.features, processes=1)
    assert again.utterances == first.utterances
    np.testing.assert_array_equal(again.frames, first.frames)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "header"),
        ("path\ttext\n", "header"),
        ("\t".join(COLUMNS) + "\n", "no usable line"),
        ("\t".join(COLUMNS) + "\na.wav\t1.0\ts\tcafé\n", "é"),
        ("\t".join(COLUMNS) + "\na.wav\t1.0\ts\n", "3 fields"),
    ],
)
def test_a_useless_manifest_is_refused(tmp_path: Path, content: str, named: str) -> None:
    path = tmp_path / "bad.tsv"
    path.write_text(content)
    with pytest.raises(ConfigError, match=named):
        read_manifest(path)


def test_a_bad_line_is_named_and_the_others_are_read(manifest: Path) -> None:
    with manifest.open("a") as file:
        file.write("x.flac\tlong\ts\thello\n")
    read = read_manifest(manifest)
    assert len(read.recordings) == 6
    assert len(read.skipped) == 1
    assert read.skipped[0].startswith(f"{manifest}:8:")


def test_augmentation_keeps_shape_and_floor() -> None:
    random = np.random.default_rng(0)
    silence = np.full(80, -13.8, np.float32)
    noise = random.normal(-8, 1, (50, 80)).astype(np.float32)
    frames = random.normal(-5, 2, (100, 80)).astype(np.float32)
    config = AugmentConfig(noise_probability=1.0)
    for _ in range(20):
        changed = augment(frames, silence, frames.mean(0), noise, config, random, masks=True)
        assert changed.dtype == np.float32
        assert changed.shape[1] == 80
        assert 100 <= len(changed) <= 100 + sum(config.pad_frames)
        assert np.isfinite(changed).all()
        assert (changed >= -13.81).all()


def test_the_learning_rate_rises_stays_and_falls() -> None:
    config = TrainConfig(
        (), (), (), None, None, Path(), Path(),
        epochs=10, decay_epochs=4, warmup_updates=10, learning_rate=1.0,
    )  # fmt: skip
    assert learning_rate(config, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate(config, 100, 5.9) == 1.0
    assert learning_rate(config, 100, 8.0) == pytest.approx(0.5)
    assert learning_rate(config, 100, 10.0) == pytest.approx(0.01)
