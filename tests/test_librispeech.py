from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamasr.errors import ConfigError
from streamasr.training.librispeech import librispeech_manifest


@pytest.fixture
def unpacked(tmp_path: Path, demo: np.ndarray) -> Path:
    """One chapter of two utterances, as LibriSpeech's archives unpack."""
    chapter = tmp_path / "LibriSpeech" / "train-clean-100" / "103" / "1240"
    chapter.mkdir(parents=True)
    for number in range(2):
        soundfile.write(chapter / f"103-1240-000{number}.flac", demo[:16_000], 16_000)
    (chapter / "103-1240.trans.txt").write_text(
        "103-1240-0000 CHAPTER ONE\n103-1240-0001 IT'S A CAT\n"
    )
    return tmp_path


@pytest.mark.parametrize("below", ["", "LibriSpeech", "LibriSpeech/train-clean-100"])
def test_the_corpus_is_listed_from_any_of_its_folders(unpacked: Path, below: str) -> None:
    recordings = librispeech_manifest(unpacked / below).recordings
    assert [recording.text for recording in recordings] == ["chapter one", "it's a cat"]
    assert {recording.speaker for recording in recordings} == {"103"}
    assert all(recording.duration_seconds == 1.0 for recording in recordings)
    assert all(recording.path.exists() for recording in recordings)


def test_a_damaged_recording_is_named(unpacked: Path) -> None:
    damaged = next(unpacked.rglob("*0001.flac"))
    damaged.write_text("no audio")
    manifest = librispeech_manifest(unpacked)
    assert len(manifest.recordings) == 1
    assert damaged.name in manifest.skipped[0]


def test_a_folder_without_librispeech_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no LibriSpeech below"):
        librispeech_manifest(tmp_path)
