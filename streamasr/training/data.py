"""Everything a run reads: features of speech and noise, pronunciations, places to cut."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from streamasr.config import FeatureConfig, shipped
from streamasr.decoder.lexicon import Lexicon, Phones
from streamasr.decoder.pronounce import pronounce
from streamasr.training.align import open_alignments
from streamasr.training.batches import Alignment, Cut, Source
from streamasr.training.features import SPEEDS, FeatureStore, open_features
from streamasr.training.librispeech import librispeech_manifest
from streamasr.training.manifest import Manifest, Recording, read_manifest
from streamasr.training.noise import noise_files
from streamasr.training.options import LIBRISPEECH, TrainConfig

Pronunciations = Mapping[str, tuple[Phones, ...]]


@dataclass(frozen=True)
class TrainingData:
    """``dev`` are corpora by name; ``lexicon`` has every word of both, of
    which ``added`` are those that the file lacks; ``skipped`` names each line and recording
    that cannot be used."""

    sources: tuple[Source, ...]
    dev: tuple[tuple[str, FeatureStore], ...]
    noise: FeatureStore | None
    lexicon: Lexicon
    added: Pronunciations
    skipped: tuple[str, ...]


def open_data(
    config: TrainConfig, features: FeatureConfig, pronunciations: Pronunciations | None = None
) -> TrainingData:
    """Read what ``config`` names; features and cuts that are not kept yet are computed.

    ``pronunciations`` are the added ones, where another process of the run has found them
    already; otherwise espeak-ng is asked. Raises ConfigError for
    manifests, a lexicon or folders that cannot be used.
    """
    skipped: list[str] = []

    def store(manifest: Manifest, speeds: tuple[float, ...]) -> FeatureStore:
        opened = open_features([manifest], features, config.features, speeds=speeds)
        skipped.extend((*manifest.skipped, *opened.skipped))
        return opened

    sources = [
        Source(store(_manifest(path), SPEEDS), share)
        for path, share in zip(config.manifests, config.shares, strict=True)
    ]
    dev = [(corpus_name(path), store(_manifest(path), (1.0,))) for path in config.dev_manifests]
    noise = None if config.noise is None else store(_noise_manifest(config.noise), (1.0,))
    lexicon = Lexicon.load(config.lexicon or shipped("lm", "lexicon.txt.xz"))
    if pronunciations is None:
        stores = [*(source.store for source in sources), *(opened for _, opened in dev)]
        words = {word for each in stores for u in each.utterances for word in u.text.split()}
        pronunciations = pronounce(sorted(words - set(lexicon.pronunciations)))
    lexicon = Lexicon({**lexicon.pronunciations, **pronunciations})
    if config.init is not None:
        sources = [
            replace(
                source,
                alignments=open_alignments(source.store, config.init, lexicon, config.features),
            )
            for source in sources
        ]
    if noise is not None and config.noise_alone > 0:
        sources.append(Source(noise, config.noise_alone, _cut_evenly(noise)))
    return TrainingData(tuple(sources), tuple(dev), noise, lexicon, pronunciations, tuple(skipped))


_NOISE_PIECE_FRAMES = 800


def _cut_evenly(noise: FeatureStore) -> dict[int, Alignment]:
    """Without words a recording can be cut anywhere."""
    return {
        index: Alignment(
            cuts=tuple(
                Cut(frame, 0)
                for frame in range(_NOISE_PIECE_FRAMES, each.frames, _NOISE_PIECE_FRAMES)
            )
        )
        for index, each in enumerate(noise.utterances)
    }


def corpus_name(path: Path) -> str:
    """What a manifest's corpus is called in figures: the name of its folder."""
    return LIBRISPEECH if _librispeech_folder(path) else path.resolve().parent.name


def _manifest(path: Path) -> Manifest:
    folder = _librispeech_folder(path)
    return librispeech_manifest(Path(folder)) if folder else read_manifest(path)


def _librispeech_folder(path: Path) -> str:
    """What ``librispeech:DIR`` names; empty for a manifest."""
    kind, _, folder = str(path).partition(":")
    return folder if kind == LIBRISPEECH else ""


def _noise_manifest(folder: Path) -> Manifest:
    recordings = (Recording(path, 0.0, "noise", "") for path in noise_files(folder))
    return Manifest(folder, tuple(recordings), ())
