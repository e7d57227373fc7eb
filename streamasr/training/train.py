"""Train the acoustic network: CTC on both heads, in bf16 on a CPU.

Several processes (``--processes``, one thread each) share every batch and add up their
gradients, which on a CPU is faster than one process with several threads and gives the
gradient of the whole batch. State is saved every few minutes and at every epoch's end;
the same command takes up where the last save was. The shipped weights are an
exponential moving average (Polyak and Juditsky, 1992) of the trained ones.
"""

import math
import os
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from rapidfuzz.distance import Levenshtein
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.functional import ctc_loss

from streamasr.acoustic.checkpoint import Checkpoint
from streamasr.acoustic.gru import GruCtc, NetworkConfig, Output, parameter_count
from streamasr.config import FeatureConfig
from streamasr.decoder.alphabet import CHARACTER_ALPHABET, PHONE_ALPHABET
from streamasr.decoder.lexicon import Lexicon
from streamasr.decoder.pronounce import pronounce
from streamasr.errors import ConfigError
from streamasr.frontend.logmel import silence_frame
from streamasr.recognizer import shipped
from streamasr.training.augment import AugmentConfig
from streamasr.training.batches import Batch, Source, TrainingBatches, make_batch, phone_target
from streamasr.training.features import FeatureStore, open_features
from streamasr.training.log import TrainingLog
from streamasr.training.manifest import Manifest, Recording, read_manifest
from streamasr.training.options import TrainConfig


def train(config: TrainConfig) -> None:
    """Run or take up ``config``; the best weights so far are ``folder/best.safetensors``.

    Raises ConfigError for manifests, lexicon or folders that cannot be used.
    """
    config.folder.mkdir(parents=True, exist_ok=True)
    _prepare(config)
    if config.processes == 1:
        _worker(0, config)
    else:
        _rendezvous(config).unlink(missing_ok=True)
        spawn(_worker, (config,), nprocs=config.processes)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class _Data:
    sources: tuple[Source, ...]
    dev: tuple[tuple[str, FeatureStore], ...]
    noise: FeatureStore | None
    lexicon: Lexicon


def _prepare(config: TrainConfig) -> _Data:
    """Features and pronunciations, computed by the first process that needs them."""
    features = FeatureConfig()
    sources = []
    for path, share in zip(config.manifests, config.shares, strict=True):
        store = open_features([read_manifest(path)], features, config.features)
        sources.append(Source(store, share))
    dev = tuple(
        (
            path.parent.name,
            open_features([read_manifest(path)], features, config.features, speeds=(1.0,)),
        )
        for path in config.dev_manifests
    )
    noise = None
    if config.noise is not None:
        files = sorted(
            path for path in config.noise.rglob("*") if path.suffix in {".opus", ".wav", ".flac"}
        )
        if not files:
            raise ConfigError(f"no .opus, .wav or .flac file of noise below {config.noise}")
        recordings = tuple(Recording(path, 0.0, "noise", "") for path in files)
        noise = open_features(
            [Manifest(config.noise, recordings, ())], features, config.features, speeds=(1.0,)
        )
    lexicon = Lexicon.load(config.lexicon or shipped("lm", "lexicon.txt.xz"))
    stores = [source.store for source in sources] + [store for _, store in dev]
    words = {word for store in stores for u in store.utterances for word in u.text.split()}
    missing = sorted(words - set(lexicon.pronunciations))
    lexicon = Lexicon({**lexicon.pronunciations, **pronounce(missing)})
    return _Data(tuple(sources), dev, noise, lexicon)


def _statistics(sources: tuple[Source, ...]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation ``(mels,)`` over a sample of every source's frames."""
    rows = np.concatenate(
        [
            np.asarray(
                source.store.frames[:: max(1, len(source.store.frames) // 100_000)], np.float32
            )
            for source in sources
        ]
    )
    return torch.from_numpy(rows.mean(0)), torch.from_numpy(rows.std(0) + 1e-3)


class _Run:
    """The network in training, its average, and everything a save must hold."""

    def __init__(self, config: TrainConfig, data: _Data) -> None:
        torch.manual_seed(config.seed)
        shape = NetworkConfig(
            width=config.width, conv_layers=config.conv_layers, gru_layers=config.gru_layers
        )
        features = FeatureConfig()
        network = GruCtc(shape, dropout=config.dropout)
        network.mean, network.deviation = _statistics(data.sources)
        network.silence = torch.from_numpy(silence_frame(features))
        self.network = network
        self.average = {name: value.clone() for name, value in network.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=config.weight_decay
        )
        self.epoch, self.index, self.update = 0, 0, 0
        self.audio_hours = 0.0
        self.best = math.inf
        self.history: list[dict[str, Any]] = []

    def save(self, path: Path) -> None:
        state = {
            "network": self.network.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "counters": (self.epoch, self.index, self.update, self.audio_hours, self.best),
            "history": self.history,
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.index, self.update, self.audio_hours, self.best = state["counters"]
        self.history = state["history"]

    def follow(self, decay: float) -> None:
        """Move the average towards the network; faster at first, when both are far off."""
        keep = min(decay, (1 + self.update) / (10 + self.update))
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value, 1 - keep)

    def averaged(self) -> GruCtc:
        """A network in evaluation mode that holds the averaged weights."""
        network = GruCtc(self.network.config)
        network.load_state_dict(self.average)
        return network.eval()


def learning_rate(config: TrainConfig, update: int, epoch: float) -> float:
    """Linear warm-up, a plateau, then a linear fall to a hundredth over the last epochs."""
    warmup = min(1.0, (update + 1) / config.warmup_updates)
    left = min(1.0, max(0.0, (config.epochs - epoch) / config.decay_epochs))
    return config.learning_rate * warmup * max(left, 0.01)


def losses(output: Output, batch: Batch, network: GruCtc) -> tuple[Tensor, Tensor]:
    """The CTC losses (natural log, summed over the batch) of the phone and character heads."""
    steps = -(-batch.frame_counts // network.config.subsampling)
    return tuple(  # type: ignore[return-value]
        ctc_loss(head.transpose(0, 1), targets, steps, counts, reduction="sum", zero_infinity=True)
        for head, targets, counts in (
            (output.phones, batch.phones, batch.phone_counts),
            (output.characters, batch.characters, batch.character_counts),
        )
    )


def _rendezvous(config: TrainConfig) -> Path:
    """The file through which the processes of a run find each other; no port to collide on."""
    return config.folder / "rendezvous"


def _worker(rank: int, config: TrainConfig) -> None:
    torch.set_num_threads(1 if config.processes > 1 else os.cpu_count() or 1)
    if config.processes > 1:
        torch.distributed.init_process_group(
            "gloo",
            init_method=f"file://{_rendezvous(config).absolute()}",
            rank=rank,
            world_size=config.processes,
        )
    data = _prepare(config)
    run = _Run(config, data)
    last = config.folder / "last.pt"
    if last.exists():
        run.load(last)
    network = run.network
    silence = network.silence.numpy()
    batches = TrainingBatches(
        data.sources,
        data.lexicon,
        silence,
        network.mean.numpy(),
        data.noise,
        augmentation=AugmentConfig(),
        batch_frames=round(config.batch_seconds * 100),
        batch_utterances=config.batch_utterances,
        seed=config.seed,
    )
    log = TrainingLog(config.folder / "log.jsonl", shown=rank == 0)
    if rank == 0:
        log.line(event="start", parameters=parameter_count(network), update=run.update)
    saved = time.monotonic()
    with log.progress:
        while run.epoch < config.epochs:
            epoch = batches.epoch(run.epoch)
            log.epoch(run.epoch, len(epoch), run.index)
            while run.index < len(epoch):
                figures = _update(run, batches, epoch, config, data.lexicon, rank)
                run.index += 1
                run.update += 1
                run.follow(config.average_decay)
                log.update(**figures)
                if rank == 0 and time.monotonic() - saved > 60 * config.save_minutes:
                    run.save(last)
                    saved = time.monotonic()
            run.epoch, run.index = run.epoch + 1, 0
            if rank == 0:
                figures = _evaluate(run.averaged(), data, silence)
                run.history.append({"epoch": run.epoch, "update": run.update, **figures})
                log.line(
                    event="epoch",
                    epoch=run.epoch,
                    update=run.update,
                    hours=round(run.audio_hours, 1),
                    **figures,
                )
                score = float(np.mean([v for k, v in figures.items() if k.endswith("phone_error")]))
                if score < run.best:
                    run.best = score
                    _checkpoint(run, config, figures).save(config.folder / "best.safetensors")
                run.save(last)
                saved = time.monotonic()
            if config.processes > 1:
                torch.distributed.barrier()


def _update(
    run: _Run,
    batches: TrainingBatches,
    epoch: list[list[Any]],
    config: TrainConfig,
    lexicon: Lexicon,
    rank: int,
) -> dict[str, float]:
    """One step of the optimizer over this process' share of batch ``run.index``."""
    pairs = epoch[run.index]
    network = run.network.train()
    position = run.epoch + run.index / len(epoch)
    rate = learning_rate(config, run.update, position)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    torch.manual_seed(hash((config.seed, run.update, rank)))
    tokens = sum(len(phone_target(u.text, lexicon)) for _, u in pairs)
    totals = torch.zeros(3)
    run.optimizer.zero_grad(set_to_none=False)
    if rank < len(pairs):
        batch = batches.load(
            pairs,
            run.epoch,
            run.index,
            rank=rank,
            processes=config.processes,
            masks=run.epoch > 0,
        )
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = network(batch.frames)
        phone_loss, character_loss = losses(output, batch, network)
        loss = config.phone_share * phone_loss + (1 - config.phone_share) * character_loss
        (loss / tokens).backward()  # type: ignore[no-untyped-call]
        totals = torch.tensor(
            [phone_loss.item(), character_loss.item(), float(batch.frame_counts.sum())]
        )
    gradients = [
        p.grad if p.grad is not None else torch.zeros_like(p) for p in network.parameters()
    ]
    if config.processes > 1:
        flat = torch.cat([totals, *(g.flatten() for g in gradients)])
        torch.distributed.all_reduce(flat)
        totals, rest = flat[:3], flat[3:]
        for parameter, gradient in zip(
            network.parameters(), torch.split(rest, [g.numel() for g in gradients]), strict=True
        ):
            parameter.grad = gradient.view_as(parameter)
    norm = float(nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm))
    if math.isfinite(norm):
        run.optimizer.step()
    hours = float(totals[2]) / 360_000
    run.audio_hours += hours
    return {
        "phone_loss": float(totals[0]) / tokens,
        "character_loss": float(totals[1]) / tokens,
        "norm": norm,
        "rate": rate,
        "hours": hours,
    }


@torch.no_grad()
def _evaluate(network: GruCtc, data: _Data, silence: np.ndarray[Any, Any]) -> dict[str, float]:
    """Loss a phone and greedy phone error rate on up to 150 utterances of each dev corpus."""
    figures = {}
    for name, store in data.dev:
        utterances = sorted(store.utterances, key=lambda u: u.frames)
        utterances = utterances[:: max(1, len(utterances) // 150)]
        loss, errors, phones = 0.0, 0, 0
        for first in range(0, len(utterances), 16):
            part = utterances[first : first + 16]
            batch = make_batch(
                [np.asarray(store.of(u), np.float32) for u in part],
                [u.text for u in part],
                data.lexicon,
                silence,
            )
            output = network(batch.frames)
            loss += losses(output, batch, network)[0].item()
            for row, count, u in zip(
                output.phones.argmax(-1), batch.frame_counts, part, strict=True
            ):
                heard = PHONE_ALPHABET.collapse(row[: network.steps(int(count))].tolist())
                said = [
                    PHONE_ALPHABET.labels[token] for token in phone_target(u.text, data.lexicon)
                ]
                errors += Levenshtein.distance(heard, said)
                phones += len(said)
        figures[f"{name}_loss"] = round(loss / phones, 4)
        figures[f"{name}_phone_error"] = round(errors / phones, 4)
    return figures


def _checkpoint(run: _Run, config: TrainConfig, figures: dict[str, float]) -> Checkpoint:
    provenance = {
        "manifests": {
            f"{path.parent.name}/{path.name}": share
            for path, share in zip(config.manifests, config.shares, strict=True)
        },
        "noise": config.noise.name if config.noise else None,
        "epochs": run.epoch,
        "updates": run.update,
        "audio_hours": round(run.audio_hours, 1),
        "settings": {
            key: value
            for key, value in asdict(config).items()
            if not isinstance(value, Path | tuple)
        },
        "date": date.today().isoformat(),
    }
    return Checkpoint(
        network=run.averaged(),
        features=FeatureConfig(),
        phone_labels=PHONE_ALPHABET.labels,
        character_labels=CHARACTER_ALPHABET.labels,
        name=f"streamasr-en-{config.width}x{config.gru_layers}",
        provenance=provenance,
        figures=figures,
    )


if __name__ == "__main__":
    import argparse

    from streamasr.training.options import add_arguments, train_config

    parser = argparse.ArgumentParser(prog="streamasr train")
    add_arguments(parser)
    train(train_config(parser.parse_args()))
