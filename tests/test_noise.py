from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamasr.errors import ConfigError
from streamasr.training.noise import Noise


def test_noise_lies_as_far_below_as_asked(tmp_path: Path, demo: np.ndarray) -> None:
    hiss = np.random.default_rng(0).normal(0, 0.05, 20_000)
    soundfile.write(tmp_path / "hiss.wav", hiss, 16_000)
    for snr_db in (20.0, 5.0):
        noise = Noise.load(tmp_path, snr_db)
        mixed = noise.mix(demo, 3)
        added = mixed - demo
        ratio_db = 10 * np.log10(np.mean(demo**2) / np.mean(added**2))
        assert ratio_db == pytest.approx(snr_db, abs=0.2)
        np.testing.assert_array_equal(mixed, noise.mix(demo, 3))
        assert not np.array_equal(mixed, noise.mix(demo, 4))


def test_a_folder_without_noise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="file of noise below"):
        Noise.load(tmp_path, 10.0)
    soundfile.write(tmp_path / "nothing.wav", np.zeros(100), 16_000)
    with pytest.raises(ConfigError, match="silent"):
        Noise.load(tmp_path, 10.0)


def test_noise_that_cannot_be_decoded_is_named_and_left_out(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "hiss.wav", np.full(100, 0.1), 16_000)
    (tmp_path / "broken.opus").write_text("this is no audio")
    noise = Noise.load(tmp_path, 10.0)
    assert len(noise.stretches) == 1
    assert len(noise.skipped) == 1
    assert "broken.opus" in noise.skipped[0]
