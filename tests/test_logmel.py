import numpy as np
import pytest

from streamasr.config import FeatureConfig
from streamasr.frontend.logmel import LogMel, mel_filters, silence_frame

CONFIG = FeatureConfig()


@pytest.fixture(scope="module")
def logmel() -> LogMel:
    return LogMel(CONFIG)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, 20_000).astype(np.float32)


def test_equals_torchaudio(logmel: LogMel, noise: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    from streamasr.training.torchaudio_cpu import load_torchaudio

    transform = load_torchaudio().transforms.MelSpectrogram(
        sample_rate=CONFIG.sample_rate_hz,
        n_fft=CONFIG.fft_samples,
        win_length=CONFIG.window_samples,
        hop_length=CONFIG.hop_samples,
        f_min=CONFIG.low_hz,
        f_max=CONFIG.high_hz,
        n_mels=CONFIG.mels,
        power=2.0,
        center=False,
        mel_scale="slaney",
        norm=None,
    )
    theirs = transform(torch.from_numpy(noise)).clamp_min(CONFIG.floor).log().T.numpy()
    ours = logmel(noise)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 1e-3


def test_pieces_add_up_to_the_whole(logmel: LogMel, noise: np.ndarray) -> None:
    whole = logmel(noise)
    span = logmel.samples_for(16)
    pieces = [
        logmel(noise[first : first + span])
        for first in range(0, len(noise) - span, 16 * CONFIG.hop_samples)
    ]
    joined = np.concatenate(pieces)
    np.testing.assert_allclose(joined, whole[: len(joined)], rtol=0, atol=1e-5)


@pytest.mark.parametrize("samples", [0, 1, 511])
def test_gives_nothing_before_the_first_window(logmel: LogMel, samples: int) -> None:
    assert logmel(np.zeros(samples, np.float32)).shape == (0, CONFIG.mels)


def test_a_frame_spans_what_it_says(logmel: LogMel) -> None:
    assert logmel.samples_for(1) == CONFIG.fft_samples
    assert logmel.frames_in(logmel.samples_for(7)) == 7
    assert logmel.frames_in(logmel.samples_for(7) - 1) == 6


def test_later_samples_leave_earlier_frames_as_they_are(logmel: LogMel, noise: np.ndarray) -> None:
    changed = noise.copy()
    changed[10_000:] = 0
    untouched = logmel.frames_in(10_000)
    np.testing.assert_array_equal(logmel(changed)[:untouched], logmel(noise)[:untouched])


def test_silence_is_the_floor(logmel: LogMel) -> None:
    frames = logmel(np.zeros(1000, np.float32))
    np.testing.assert_array_equal(frames, np.tile(silence_frame(CONFIG), (len(frames), 1)))


def test_no_filter_is_empty() -> None:
    assert (mel_filters(CONFIG).sum(axis=0) > 0).all()
