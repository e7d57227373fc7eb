"""Training on a handful of clips cut from the bundled recording."""

import json
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from streamasr.acoustic.checkpoint import load_checkpoint
from streamasr.cli import main
from streamasr.config import FeatureConfig, shipped
from streamasr.errors import ConfigError
from streamasr.frontend.logmel import silence_frame
from streamasr.training.augment import AugmentConfig, augment
from streamasr.training.batches import make_batch
from streamasr.training.data import open_data
from streamasr.training.features import SPEEDS, open_features
from streamasr.training.manifest import COLUMNS, read_manifest
from streamasr.training.options import TrainConfig
from streamasr.training.sounds import KINDS, write_clips
from streamasr.training.task import StreamingTask
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


def lines(folder: Path, event: str) -> list[dict[str, Any]]:
    """The lines of a run's log about ``event``, without their time and speed."""
    found = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    for line in found:
        line.pop("time")
        line.pop("audio_hours_per_hour", None)
    return [line for line in found if line.pop("event") == event]


def command(config: TrainConfig, *more: str) -> list[str]:
    """``streamasr train`` with the settings of ``config`` that have flags."""
    settings = [
        f"--{name.replace('_', '-')}={getattr(config, name)}"
        for name in (
            "width", "conv_layers", "gru_layers", "epochs", "decay_epochs", "warmup_updates",
            "learning_rate", "dropout", "batch_seconds", "processes", "network",
        )
    ]  # fmt: skip
    manifest = str(config.manifests[0])
    folders = [f"--out={config.folder}", f"--features={config.features}"]
    program = ["-m", "streamasr", "train", manifest, "--dev", manifest]
    return [sys.executable, *program, *folders, *settings, *more]


def test_loss_falls_and_the_best_is_kept(config: TrainConfig) -> None:
    train(replace(config, epochs=6))
    history = lines(config.folder, "epoch")
    losses = [value for each in history for name, value in each.items() if name.endswith("_loss")]
    assert losses[-1] < losses[0]
    checkpoint = load_checkpoint(config.folder / "best.safetensors")
    assert checkpoint.network.config.width == 16
    assert checkpoint.provenance["updates"] > 0
    assert str(config.folder) not in json.dumps(checkpoint.provenance)
    assert "| 6 |" in (config.folder / "report.md").read_text()
    assert (config.folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(config: TrainConfig) -> None:
    train(config)
    stopped = replace(config, folder=config.folder.with_name("stopped"))
    train(replace(stopped, epochs=1))
    train(stopped)
    assert lines(stopped.folder, "epoch") == lines(config.folder, "epoch")


def run_until(update: int, config: TrainConfig, stop: signal.Signals) -> int:
    """Start ``config``'s run as a program that saves and logs after every update, and send it
    ``stop`` after ``update``. Returns its exit status."""
    program = command(config, "--log-every=1", "--save-minutes=0")
    deadline = time.monotonic() + 90
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as run:
        try:
            while not (config.folder / "last.pt").exists() or last_update(config.folder) < update:
                assert time.monotonic() < deadline, f"no update {update} in 90 s"
                with suppress(subprocess.TimeoutExpired):
                    run.wait(0.05)
                    pytest.fail(run.stderr.read() if run.stderr else "the run ended")
            run.send_signal(stop)
            return run.wait(60)
        finally:
            run.kill()


def last_update(folder: Path) -> int:
    updates = lines(folder, "updates")
    return int(updates[-1]["update"]) if updates else 0


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_run_goes_on_with_the_same_next_loss(config: TrainConfig, processes: int) -> None:
    config = replace(config, epochs=200, processes=processes, width=64)
    run_until(2, config, signal.SIGKILL)
    before = len(lines(config.folder, "updates"))
    saved = torch.load(config.folder / "last.pt", weights_only=True)["counters"][2]
    assert run_until(saved + 3, config, signal.SIGINT) == 130
    resumed = lines(config.folder, "updates")[before:]
    assert resumed[0]["update"] == saved + 1
    whole = replace(config, folder=config.folder.with_name("whole"))
    run_until(saved + 3, whole, signal.SIGKILL)
    uninterrupted = {line["update"]: line for line in lines(whole.folder, "updates")}
    for line in resumed[:3]:
        assert line == uninterrupted[line["update"]]


def test_two_processes_learn_what_one_does(config: TrainConfig) -> None:
    train(replace(config, epochs=1, dropout=0.0))
    shared = replace(config, folder=config.folder.with_name("shared"), processes=2, epochs=1)
    train(replace(shared, dropout=0.0))
    alone, together = lines(config.folder, "epoch")[0], lines(shared.folder, "epoch")[0]
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


def test_what_is_skipped_is_named_and_counted(
    config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = config.manifests[0]
    (manifest.parent / "2.flac").write_text("this is no audio")
    with manifest.open("a") as file:
        file.write("one field\n")
    train(replace(config, epochs=1))
    shown = capsys.readouterr().err
    assert "2.flac" in shown
    assert f"{manifest.name}:8: has 1 fields" in shown
    assert "skipped: 4 lines or recordings in all" in shown  # two each, in training and in dev


def test_a_full_disk_is_one_clear_error(config: TrainConfig) -> None:
    """The biggest file that the program may write is smaller than a save."""
    limit = 400_000
    program = subprocess.run(
        command(replace(config, width=128)),
        capture_output=True,
        text=True,
        timeout=100,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert program.returncode == 2
    error = [line for line in program.stderr.splitlines() if line.startswith("streamasr:")]
    assert len(error) == 1
    assert "File too large" in error[0]
    assert "Traceback" not in program.stderr


def test_a_run_that_gets_no_better_stops_early(config: TrainConfig) -> None:
    train(replace(config, epochs=50, learning_rate=0.0, patience=2))
    assert len(lines(config.folder, "epoch")) <= 4
    assert lines(config.folder, "early stop")


def test_fine_tuning_starts_from_what_is_shipped(config: TrainConfig) -> None:
    train(replace(config, init=Path("shipped"), epochs=1, learning_rate=0.0))
    weights = load_checkpoint(config.folder / "best.safetensors").network.state_dict()
    shipped_weights = load_checkpoint(shipped("checkpoints", "english.safetensors"))
    for name, value in shipped_weights.network.state_dict().items():
        torch.testing.assert_close(weights[name], value, atol=1e-3, rtol=1e-3)


def test_a_save_of_another_network_is_not_taken_up(config: TrainConfig) -> None:
    train(replace(config, epochs=1))
    with pytest.raises(ConfigError, match=r"last.pt cannot be taken up .* another --out"):
        train(replace(config, width=24))


def test_a_damaged_save_is_named(config: TrainConfig) -> None:
    train(replace(config, epochs=1))
    (config.folder / "last.pt").write_bytes(b"no save at all")
    with pytest.raises(ConfigError, match=r"last.pt cannot be taken up"):
        train(config)


def test_other_flags_than_the_network_has_are_refused(config: TrainConfig) -> None:
    program = subprocess.run(
        command(replace(config, network="cnn-lstm"), "--init=shipped"),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert program.returncode == 2
    assert "--init is for the streaming network" in program.stderr


def test_noise_alone_is_heard_without_words(
    config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    """Clips are longer than ``batch_seconds``, so each is a batch of its own."""
    noise = config.folder.with_name("noise")
    write_clips(noise, 1, seed=0)
    train(replace(config, noise=noise, noise_alone=2.0, epochs=1, log_every=1))
    updates = lines(config.folder, "updates")
    assert len(updates) >= 2 * len(KINDS) + 1
    assert all(np.isfinite(value) for line in updates for value in line.values())
    assert all(np.isfinite(value) for value in lines(config.folder, "epoch")[0].values())
    assert "skipped" not in capsys.readouterr().err


def test_a_batch_of_nothing_but_noise_can_be_learned(config: TrainConfig) -> None:
    """Without words the likeliest output is blanks alone, and every update makes them likelier."""
    noise = config.folder.with_name("noise")
    write_clips(noise, 1, seed=0)
    config = replace(config, noise=noise, noise_alone=1.0)
    data = open_data(config, FeatureConfig())
    task = StreamingTask(config, data, scores=False)
    of_noise = data.sources[-1].store
    utterances = of_noise.utterances[:3]
    frames = [np.asarray(of_noise.of(each), np.float32) for each in utterances]
    batch = make_batch(frames, utterances, data.lexicon, silence_frame(FeatureConfig()))
    assert task.labels(utterances) == 0
    assert batch.texts == ("", "", "")
    optimizer = torch.optim.SGD(task.network.parameters(), lr=1e-4)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss, figures = task.loss(batch)
        loss.backward()
        assert all(np.isfinite(figure) for figure in figures.values())
        gradients = [p.grad for p in task.network.parameters() if p.grad is not None]
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        assert any(gradient.any() for gradient in gradients)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    "more", [["--noise-alone=1"], ["--noise-alone=1", "--noise=N", "--network=cnn-lstm"]]
)
def test_noise_alone_needs_noise_and_the_streaming_network(
    config: TrainConfig, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(config)[3:]  # without the interpreter
    assert main([*arguments, *more]) == 2
    assert (
        "--noise-alone is for the streaming network and needs --noise DIR"
        in capsys.readouterr().err
    )


def test_torchrun_shares_the_batches_among_its_processes(config: TrainConfig) -> None:
    program = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    config = replace(config, epochs=1, dropout=0.0)  # what is dropped out differs by process
    _, *rest = command(config)
    subprocess.run([sys.executable, *program, *rest], timeout=110, check=True, capture_output=True)
    alone = replace(config, folder=config.folder.with_name("alone"))
    train(alone)
    ours, theirs = lines(alone.folder, "epoch")[0], lines(config.folder, "epoch")[0]
    assert theirs["hours"] == ours["hours"]
    for name in (name for name in ours if name.endswith("_loss")):
        assert theirs[name] == pytest.approx(ours[name], rel=0.02)


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
        ("\t".join(COLUMNS) + "\na.wav\t1.0\ts\tcafé\n", "bad.tsv:2: text has é; write it"),
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


@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize("long_pad", [False, True])
def test_augmentation_keeps_bands_and_floor(mels: int, long_pad: bool) -> None:
    random = np.random.default_rng(0)
    silence = np.full(mels, -13.8, np.float32)
    noise = random.normal(-8, 1, (50, mels)).astype(np.float32)
    frames = random.normal(-5, 2, (100, mels)).astype(np.float32)
    config = AugmentConfig(noise_probability=1.0)
    slowest, fastest = config.tempo
    pad = config.long_pad_frames if long_pad else config.pad_frames
    longest = 100 / slowest + 1 + sum(pad)
    for _ in range(20):
        changed = augment(
            frames, silence, frames.mean(0), noise, config, random, long_pad=long_pad, masks=True
        )
        assert changed.dtype == np.float32
        assert changed.shape[1] == mels
        assert 100 / fastest - 1 <= len(changed) <= longest
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
