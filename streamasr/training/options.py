"""The settings of a training run and the flags that set them; loads no torch."""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

from streamasr.errors import ConfigError

STREAMING = "streaming"
NETWORKS = (STREAMING, "cnn-lstm", "cnn-bigru", "cnn-resnet-bigru", "bigru-128", "conv1d-words")
LIBRISPEECH = "librispeech"
"""``librispeech:DIR`` stands for a manifest of LibriSpeech as it unpacks."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One run. ``shares`` go with ``manifests``; epochs are passes over those shares.

    ``noise_alone`` is how many times an epoch hears each recording of ``noise`` alone, as an
    utterance without words.

    ``init`` is a checkpoint to start from, which also says where long recordings are cut
    and how words were pronounced. ``patience`` 0 never stops early.
    """

    manifests: tuple[Path, ...]
    shares: tuple[float, ...]
    dev_manifests: tuple[Path, ...]
    noise: Path | None
    lexicon: Path | None
    folder: Path
    features: Path
    network: str = STREAMING
    init: Path | None = None
    width: int = 448
    conv_layers: int = 2
    gru_layers: int = 3
    epochs: float = 40.0
    decay_epochs: float = 12.0
    warmup_updates: int = 200
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.01
    dropout: float = 0.1
    phone_share: float = 0.75
    sequence_share: float = 0.9
    batch_seconds: float = 360.0
    batch_utterances: int = 160
    average_decay: float = 0.998
    clip_norm: float = 2.0
    noise_alone: float = 0.0
    processes: int = 2
    save_minutes: float = 4.0
    log_every: int = 25
    patience: int = 0
    seed: int = 1


_FLAGS = (
    "width", "conv_layers", "gru_layers", "epochs", "decay_epochs", "warmup_updates",
    "learning_rate", "dropout", "phone_share", "sequence_share", "average_decay",
    "noise_alone", "batch_seconds", "patience", "save_minutes", "log_every", "processes", "seed",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of ``streamasr train``."""
    parser.add_argument(
        "manifests",
        nargs="*",
        metavar="MANIFEST[=SHARE]",
        help="training manifests; SHARE is the part of each that an epoch takes (default 1)",
    )
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="librispeech:DIR[=SHARE]",
        help="LibriSpeech as it unpacks, instead of a manifest or besides",
    )
    parser.add_argument(
        "--network",
        choices=NETWORKS,
        default=STREAMING,
        help=f"default: {STREAMING}; the others are the usual tutorials', to compare with",
    )
    parser.add_argument("--dev", nargs="+", type=Path, required=True, metavar="MANIFEST")
    parser.add_argument("--noise", type=Path, metavar="DIR", help="noise recordings to mix in")
    parser.add_argument("--lexicon", type=Path, help="pronunciations (default: the shipped ones)")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="for checkpoints and the log"
    )
    parser.add_argument("--features", type=Path, metavar="DIR", help="default: OUT/features")
    parser.add_argument(
        "--init",
        type=Path,
        metavar="CHECKPOINT",
        help="weights to start from, or 'shipped': fine-tuning",
    )
    defaults = {field.name: field.default for field in fields(TrainConfig)}
    for name in _FLAGS:
        default = defaults[name]
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(default),
            default=default,
            help=f"default: {default}",
        )


def train_config(arguments: argparse.Namespace) -> TrainConfig:
    """The run that the flags describe. Raises ConfigError for data or a share that is none."""
    for data in arguments.data:
        if not data.startswith(f"{LIBRISPEECH}:"):
            raise ConfigError(f"--data {data} is not known; write {LIBRISPEECH}:DIR")
    if not arguments.manifests and not arguments.data:
        raise ConfigError("nothing to train on: name a manifest or --data librispeech:DIR")
    if arguments.init is not None and arguments.network != STREAMING:
        raise ConfigError(f"--init is for the {STREAMING} network: leave it or --network out")
    if arguments.noise_alone and (arguments.noise is None or arguments.network != STREAMING):
        raise ConfigError(f"--noise-alone is for the {STREAMING} network and needs --noise DIR")
    manifests, shares = [], []
    for argument in (*arguments.manifests, *arguments.data):
        path, _, share = argument.partition("=")
        manifests.append(Path(path))
        try:
            shares.append(float(share or 1))
        except ValueError:
            raise ConfigError(f"share {share!r} of {path} is not a number") from None
    return TrainConfig(
        manifests=tuple(manifests),
        shares=tuple(shares),
        dev_manifests=tuple(arguments.dev),
        noise=arguments.noise,
        lexicon=arguments.lexicon,
        folder=arguments.out,
        network=arguments.network,
        init=arguments.init,
        features=arguments.features or arguments.out / "features",
        **{name: getattr(arguments, name) for name in _FLAGS},
    )
