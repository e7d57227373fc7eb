"""LibriSpeech as it unpacks (``LibriSpeech/train-clean-100/103/1240/…``), as a manifest."""

from pathlib import Path

from streamasr.errors import AudioFormatError, ConfigError
from streamasr.training.manifest import Manifest, Recording, audio_seconds
from streamasr.training.torchaudio_cpu import load_torchaudio


def librispeech_manifest(folder: Path) -> Manifest:
    """Every utterance below ``folder``: one subset (``…/LibriSpeech/train-clean-100``), or the
    folder that holds ``LibriSpeech``, whose ``train-*`` subsets are taken.

    torchaudio's ``LIBRISPEECH`` lists the files and their words. Raises ConfigError where
    nothing is found.
    """
    dataset = load_torchaudio().datasets.LIBRISPEECH
    folder = folder.resolve()
    if folder.parent.name == "LibriSpeech":
        root, subsets = folder.parent.parent, [folder.name]
    else:
        root = folder.parent if folder.name == "LibriSpeech" else folder
        subsets = sorted(path.name for path in root.glob("LibriSpeech/train-*"))
    recordings = []
    skipped = []
    for subset in subsets:
        listing = dataset(root, subset)
        for index in range(len(listing)):
            try:
                name, _, text, speaker, *_ = listing.get_metadata(index)
                path = root / "LibriSpeech" / subset / Path(name).relative_to(subset)
                seconds = audio_seconds(path)
            except (OSError, AudioFormatError) as error:
                skipped.append(str(error))
                continue
            recordings.append(Recording(path, seconds, str(speaker), text.lower()))
    if not recordings:
        raise ConfigError(
            f"no LibriSpeech below {folder}: name the folder that holds LibriSpeech/train-*, or"
            " one of those"
        )
    return Manifest(folder, tuple(recordings), tuple(skipped))
