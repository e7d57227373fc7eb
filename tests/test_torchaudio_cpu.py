"""torchaudio's transforms work beside a CPU build of torch."""

import importlib.util

import pytest
import torch

from streamasr.training.torchaudio_cpu import load_torchaudio

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("torchaudio") is None, reason="torchaudio is not installed"
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def tone(frequency_hz: float) -> torch.Tensor:
    return torch.sin(2 * torch.pi * frequency_hz * torch.arange(16_000) / 16_000)


def test_a_mel_spectrogram_puts_a_higher_tone_into_a_higher_band() -> None:
    torchaudio = load_torchaudio()
    mel = torchaudio.transforms.MelSpectrogram(
        sample_rate=16_000, n_fft=512, n_mels=40, center=False
    )
    low, high = mel(tone(300)), mel(tone(3_000))
    assert low.shape == (40, 1 + (16_000 - 512) // 256)
    assert low.mean(dim=1).argmax() < high.mean(dim=1).argmax()


def test_resampling_keeps_the_length_in_seconds() -> None:
    torchaudio = load_torchaudio()
    assert torchaudio.functional.resample(tone(300), 16_000, 8_000).shape == (8_000,)


def test_loading_again_gives_the_same_module() -> None:
    assert load_torchaudio() is load_torchaudio()
