"""PCM decoding and resampling are functions of the bytes, not of the packet sizes."""

from collections.abc import Iterator

import numpy as np
import pytest

from streamasr.errors import AudioFormatError
from streamasr.frontend.resample import PcmDecoder, Resampler

PACKETS = {"primes": (2, 3, 5, 7, 11, 13, 997, 4_001), "320": (320,), "whole": (1 << 30,)}


def cut(data: bytes, sizes: tuple[int, ...]) -> Iterator[bytes]:
    at = turn = 0
    while at < len(data):
        yield data[at : at + sizes[turn % len(sizes)]]
        at += sizes[turn % len(sizes)]
        turn += 1


def through(data: bytes, decoder: PcmDecoder, resampler: Resampler, sizes: tuple[int, ...]):
    pieces = [resampler.process(decoder.decode(packet)) for packet in cut(data, sizes)]
    return np.concatenate([*pieces, resampler.flush()])


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.7, 0.7, shape).astype(np.float32)


@pytest.mark.parametrize("rate_hz", [8_000, 12_345, 16_000, 22_050, 44_100, 48_000])
def test_one_byte_at_a_time_equals_the_whole(rate_hz: int) -> None:
    data = (noise(1, rate_hz // 4) * 32767).astype("<i2").tobytes()
    whole = through(data, PcmDecoder(), Resampler(rate_hz), (1 << 30,))
    single = through(data, PcmDecoder(), Resampler(rate_hz), (1,))
    assert np.array_equal(single, whole)
    assert abs(len(whole) - 4_000) <= 1


@pytest.mark.parametrize("name", PACKETS)
def test_192_khz_stereo_float_is_the_same_however_it_is_cut(name: str) -> None:
    data = noise(2, 192_000, 2).astype("<f4").tobytes()

    def run(sizes: tuple[int, ...]) -> np.ndarray:
        return through(data, PcmDecoder("pcm_f32le", 2), Resampler(192_000), sizes)

    random_sizes = tuple(np.random.default_rng(3).integers(1, 60_000, 50).tolist())
    assert np.array_equal(run(PACKETS[name]), run(random_sizes))
    assert len(run(PACKETS[name])) == 16_000


def test_a_tone_keeps_its_pitch_and_level() -> None:
    seconds = np.arange(48_000, dtype=np.float64) / 48_000
    tone = (0.5 * np.sin(2 * np.pi * 440 * seconds)).astype(np.float32)
    resampler = Resampler(48_000)
    out = np.concatenate([resampler.process(tone), resampler.flush()])
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert np.abs(out[800:-800] - expected[800:-800]).max() < 1e-3


def test_channels_are_mixed_and_16_bit_is_scaled_exactly() -> None:
    pcm = np.array([[16384, -16384], [32767, 32767], [-32768, -32768]], dtype="<i2")
    mono = PcmDecoder("pcm_s16le", 2).decode(pcm.tobytes())
    assert mono.tolist() == [0.0, 32767 / 32768, -1.0]


def test_a_split_sample_is_carried_over() -> None:
    decoder = PcmDecoder()
    assert decoder.decode(b"\x00").tolist() == []
    assert decoder.carried_bytes == 1
    assert decoder.decode(b"\x40").tolist() == [0.5]
    assert decoder.carried_bytes == 0


def test_loud_floats_are_clipped() -> None:
    data = np.array([3.0, -1e30], dtype="<f4").tobytes()
    assert PcmDecoder("pcm_f32le").decode(data).tolist() == [1.0, -1.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_numbers_are_refused(bad: float) -> None:
    data = np.array([0.0, bad], dtype="<f4").tobytes()
    with pytest.raises(AudioFormatError, match="NaN"):
        PcmDecoder("pcm_f32le").decode(data)


def test_impossible_formats_are_refused() -> None:
    with pytest.raises(AudioFormatError, match="mulaw"):
        PcmDecoder("mulaw")  # type: ignore[arg-type]
    with pytest.raises(AudioFormatError, match="channels"):
        PcmDecoder(channels=0)
    with pytest.raises(AudioFormatError, match="0 Hz"):
        Resampler(0)


def test_flush_starts_a_new_stream() -> None:
    resampler = Resampler(8_000)
    samples = noise(4, 4_000)
    first = np.concatenate([resampler.process(samples), resampler.flush()])
    second = np.concatenate([resampler.process(samples), resampler.flush()])
    assert np.array_equal(first, second)
