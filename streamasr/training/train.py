"""The training loop: any task of ``task.py``, in bf16 on CPUs or GPUs, until told to stop.

Several processes share every batch and add up their gradients; on a CPU two processes of one
thread each are faster than one of two threads, and give the gradient of the whole batch.
State is saved every few minutes, at every epoch's end and on SIGINT or SIGTERM; the same
command takes up where the last save was, with the same batches. Hidden matrices are trained
by Muon, everything else by AdamW. The weights that are scored and kept are an exponential
moving average (Polyak and Juditsky, 1992) of the trained ones.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from streamasr.acoustic.checkpoint import load_checkpoint
from streamasr.acoustic.gru import parameter_count
from streamasr.config import FeatureConfig, shipped
from streamasr.decoder.alphabet import PHONE_ALPHABET
from streamasr.errors import ConfigError
from streamasr.frontend.logmel import silence_frame
from streamasr.training.augment import AugmentConfig
from streamasr.training.baselines import (
    SHAPES,
    WORD_CLASSIFIER,
    TranscriberTask,
    WordClassifierTask,
)
from streamasr.training.batches import TrainingBatches, frame_statistics
from streamasr.training.data import Pronunciations, TrainingData, corpus_name, open_data
from streamasr.training.features import Utterance
from streamasr.training.log import TrainingLog, disk_error, report_skipped
from streamasr.training.optimizer import Muon
from streamasr.training.options import STREAMING, TrainConfig
from streamasr.training.plots import new_figure, write_report
from streamasr.training.processes import (
    Group,
    StopRequest,
    is_launched,
    launched_group,
    run_locally,
)
from streamasr.training.task import StreamingTask, Task


def train(config: TrainConfig) -> None:
    """Run or take up ``config``; the best weights so far are ``folder/best.safetensors``.

    Raises ConfigError for manifests, lexicon, folders or a disk that cannot be used, and
    KeyboardInterrupt after the save that follows SIGINT or SIGTERM.
    """
    try:
        config.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{config.folder} cannot be made: {error}") from None
    if config.init == Path("shipped"):
        config = replace(config, init=shipped("checkpoints", "english.safetensors"))
    if config.init and load_checkpoint(config.init).phone_labels != PHONE_ALPHABET.labels:
        raise ConfigError(f"checkpoint {config.init} has other phones: begin with the shipped one")
    new_figure(1, 1)  # raises here, not after the first epoch, where matplotlib is missing
    if is_launched():
        _work(launched_group(), config, None)
        return
    data = open_data(config, _features(config))
    report_skipped(data.skipped)
    run_locally(config.processes, config.folder / "rendezvous", _work, config, data.added)


def _features(config: TrainConfig) -> FeatureConfig:
    shape = SHAPES.get(config.network)
    return FeatureConfig() if shape is None else FeatureConfig(mels=shape.mels)


def _task(config: TrainConfig, data: TrainingData, *, scores: bool) -> Task:
    if config.network == STREAMING:
        return StreamingTask(config, data, scores=scores)
    if config.network == WORD_CLASSIFIER:
        return WordClassifierTask(config, data)
    return TranscriberTask(config, data)


class _Run:
    """The network in training, its average, and everything a save must hold."""

    def __init__(self, config: TrainConfig, task: Task, group: Group) -> None:
        self.network = task.network.to(group.device)
        self.average = {name: value.clone() for name, value in self.network.state_dict().items()}
        heads = {parameter for head in task.heads for parameter in head.parameters()}
        matrices = [p for p in self.network.parameters() if p.dim() > 1 and p not in heads]
        others = [p for p in self.network.parameters() if p.dim() == 1 or p in heads]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, lr=0.0, betas=(0.9, 0.98), weight_decay=config.weight_decay),
            Muon(matrices, weight_decay=config.weight_decay, group=group),
        ]
        self.epoch, self.index, self.update = 0, 0, 0
        self.audio_hours = 0.0
        self.best = math.inf
        self.history: list[dict[str, Any]] = []

    def save(self, path: Path) -> None:
        """Write ``path`` in one go. Raises ConfigError where the disk does not take it."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "counters": (self.epoch, self.index, self.update, self.audio_hours, self.best),
            "history": self.history,
        }
        partial = path.with_suffix(".partial")
        try:
            torch.save(state, partial)
            partial.replace(path)
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            raise disk_error(path, error) from None

    def load(self, path: Path, device: torch.device) -> None:
        """Raises ConfigError where ``path`` is damaged or of another network."""
        try:
            state = torch.load(path, weights_only=True, map_location=device)
            self.network.load_state_dict(state["network"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
        except (OSError, RuntimeError, KeyError, ValueError, EOFError, UnpicklingError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"{path} cannot be taken up ({reason}); use the settings it was begun with, or"
                " another --out"
            ) from None
        self.average = state["average"]
        self.epoch, self.index, self.update, self.audio_hours, self.best = state["counters"]
        self.history = state["history"]

    def follow(self, decay: float) -> None:
        """Move the average towards the network; faster at first, when both are far off."""
        keep = min(decay, (1 + self.update) / (10 + self.update))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - keep)
            else:  # a count
                self.average[name].copy_(value)


def learning_rate(config: TrainConfig, update: int, epoch: float) -> float:
    """Linear warm-up, a plateau, then a linear fall to a hundredth over the last epochs."""
    warmup = min(1.0, (update + 1) / config.warmup_updates)
    left = min(1.0, max(0.0, (config.epochs - epoch) / config.decay_epochs))
    return config.learning_rate * warmup * max(left, 0.01)


def _work(group: Group, config: TrainConfig, added: Pronunciations | None) -> None:
    """What every process of the run does; rank 0 also shows, scores and saves."""
    first = group.rank == 0
    if added is None and not first:
        group.wait()  # until rank 0 has computed the features
    data = open_data(config, _features(config), added)
    if added is None and first:
        report_skipped(data.skipped)
        group.wait()
    torch.manual_seed(config.seed)
    task = _task(config, data, scores=first)
    run = _Run(config, task, group)
    last = config.folder / "last.pt"
    if last.exists():
        run.load(last, group.device)
    batches = TrainingBatches(
        data.sources,
        data.lexicon,
        silence_frame(_features(config)),
        frame_statistics(data.sources)[0].numpy(),
        data.noise,
        augmentation=AugmentConfig(),
        batch_frames=round(config.batch_seconds * 100),
        batch_utterances=config.batch_utterances,
        seed=config.seed,
        short_first=config.init is None,
    )
    log = TrainingLog(config.folder / "log.jsonl", config.log_every, shown=first)
    if first:
        parameters = parameter_count(run.network)
        log.line(event="start", network=config.network, parameters=parameters, update=run.update)
    with StopRequest() as stop, log.progress:
        _loop(group, config, task, run, batches, log, stop)
    if stop.made:
        raise KeyboardInterrupt


def _loop(
    group: Group,
    config: TrainConfig,
    task: Task,
    run: _Run,
    batches: TrainingBatches,
    log: TrainingLog,
    stop: StopRequest,
) -> None:
    last = config.folder / "last.pt"
    saved = time.monotonic()
    while run.epoch < config.epochs:
        epoch = batches.epoch(run.epoch)
        log.epoch(run.epoch, len(epoch), run.index)
        while run.index < len(epoch):
            figures, stopped = _update(group, config, task, run, batches, epoch, stop)
            run.index += 1
            run.update += 1
            run.follow(config.average_decay)
            log.update(run.update, **figures)
            due = time.monotonic() - saved > 60 * config.save_minutes
            if group.rank == 0 and (due or stopped):
                run.save(last)
                saved = time.monotonic()
            if stopped:
                stop.made = True
                return
        run.epoch, run.index = run.epoch + 1, 0
        over = False
        if group.rank == 0:
            _end_epoch(config, task, run, log)
            run.save(last)
            saved = time.monotonic()
            over = _out_of_patience(run.history, config.patience)
        over = bool(group.add_up(torch.tensor([float(over)], device=group.device)))
        if over:
            log.line(event="early stop", epoch=run.epoch, best=run.best)
            return


def _out_of_patience(history: Sequence[Mapping[str, Any]], patience: int) -> bool:
    """Whether the last ``patience`` epochs were all no better than one before; never if 0."""
    scores = [epoch["score"] for epoch in history]
    return 0 < patience < len(scores) and min(scores[-patience:]) >= min(scores[:-patience])


def _update(
    group: Group,
    config: TrainConfig,
    task: Task,
    run: _Run,
    batches: TrainingBatches,
    epoch: list[list[tuple[int, Utterance]]],
    stop: StopRequest,
) -> tuple[dict[str, float], bool]:
    """One step of the optimizers over this process' share of batch ``run.index``: figures a
    label, and whether some process was asked to stop."""
    pairs = epoch[run.index]
    position = run.epoch + run.index / len(epoch)
    rate = learning_rate(config, run.update, position)
    for optimizer in run.optimizers:
        for settings in optimizer.param_groups:
            settings["lr"] = rate
    torch.manual_seed(hash((config.seed, run.update, group.rank)))
    labels = max(1, task.labels(utterance for _, utterance in pairs))
    run.network.train()
    run.network.zero_grad(set_to_none=False)
    totals = dict.fromkeys(task.figures, 0.0)
    frames = 0
    if group.rank < len(pairs):
        batch = batches.load(pairs, run.epoch, run.index, rank=group.rank, processes=group.size).to(
            group.device
        )
        loss, totals = task.loss(batch)
        (loss / labels).backward()  # type: ignore[no-untyped-call]
        frames = int(batch.frame_counts.sum())
    gradients = [
        p.grad if p.grad is not None else torch.zeros_like(p) for p in run.network.parameters()
    ]
    shared = [*totals.values(), float(frames), float(stop.made)]
    flat = torch.cat([torch.tensor(shared, device=group.device), *(g.flatten() for g in gradients)])
    group.add_up(flat)
    *sums, frames_sum, stops = flat[: len(shared)].tolist()
    parts = torch.split(flat[len(shared) :], [g.numel() for g in gradients])
    for parameter, gradient in zip(run.network.parameters(), parts, strict=True):
        parameter.grad = gradient.view_as(parameter)
    norm = float(nn.utils.clip_grad_norm_(run.network.parameters(), config.clip_norm))
    if math.isfinite(norm):
        for optimizer in run.optimizers:
            optimizer.step()
    hours = frames_sum / 360_000
    run.audio_hours += hours
    figures = {name: total / labels for name, total in zip(task.figures, sums, strict=True)}
    return {**figures, "norm": norm, "rate": rate, "hours": hours}, stops > 0


def _end_epoch(config: TrainConfig, task: Task, run: _Run, log: TrainingLog) -> None:
    """Score the averaged weights, keep them if they are the best, and write the report."""
    figures, examples = task.score(run.average)
    epoch = {"epoch": run.epoch, "update": run.update, "hours": round(run.audio_hours, 1)}
    run.history.append({**epoch, **figures})
    log.line(event="epoch", **epoch, **figures)
    if figures["score"] < run.best:
        run.best = figures["score"]
        best = config.folder / "best.safetensors"
        try:
            task.save(best, run.average, _provenance(run, config), figures)
        except (OSError, SafetensorError) as error:
            raise disk_error(best, error) from None
    write_report(config.folder, _settings(config), examples)


def _settings(config: TrainConfig) -> dict[str, Any]:
    """Those of the run that are no path of the machine."""
    return {
        key: value for key, value in asdict(config).items() if not isinstance(value, Path | tuple)
    }


def _provenance(run: _Run, config: TrainConfig) -> dict[str, Any]:
    """What a checkpoint says of how it was made."""
    return {
        "manifests": {
            f"{corpus_name(path)}/{path.name}": share
            for path, share in zip(config.manifests, config.shares, strict=True)
        },
        "noise": config.noise.name if config.noise else None,
        "begun_with": load_checkpoint(config.init).provenance if config.init else None,
        "epochs": run.epoch,
        "updates": run.update,
        "audio_hours": round(run.audio_hours, 1),
        "settings": _settings(config),
        "date": date.today().isoformat(),
    }
