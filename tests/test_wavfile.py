"""Files and standard input: every common format, and one line for everything that is not."""

import itertools
import os
import struct
import threading
import time
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamasr.capture.wavfile import AudioFile, PcmInput, in_real_time, missing_wav_bytes
from streamasr.errors import AudioFormatError


def tone(seconds: float, rate_hz: int, channels: int = 1) -> np.ndarray:
    wave = 0.3 * np.sin(2 * np.pi * 300 * np.arange(int(seconds * rate_hz)) / rate_hz)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


def read(path: Path) -> np.ndarray:
    return np.concatenate(list(AudioFile(path).blocks()))


def refusal(path: Path) -> tuple[str, np.ndarray]:
    """The one-line error, and what was delivered before it."""
    delivered = [np.zeros(0, dtype=np.float32)]

    def deliver() -> None:
        for block in AudioFile(path).blocks():
            delivered.append(block)

    with pytest.raises(AudioFormatError) as error:
        deliver()
    assert "\n" not in str(error.value)
    return str(error.value), np.concatenate(delivered)


@pytest.mark.parametrize(
    ("name", "subtype", "rate_hz", "channels"),
    [
        ("a.wav", "PCM_16", 16_000, 1),
        ("a.wav", "FLOAT", 192_000, 2),
        ("a.wav", "PCM_24", 44_100, 2),
        ("a.flac", "PCM_16", 48_000, 1),
        ("a.ogg", "VORBIS", 22_050, 1),
        ("a.ogg", "OPUS", 48_000, 2),
        ("a.mp3", "MPEG_LAYER_III", 44_100, 2),
    ],
)
def test_common_formats_come_out_as_16_khz_mono(
    tmp_path: Path, name: str, subtype: str, rate_hz: int, channels: int
) -> None:
    path = tmp_path / name
    soundfile.write(path, tone(1.0, rate_hz, channels), rate_hz, subtype=subtype)
    samples = read(path)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(16_000, abs=2_400)
    assert np.sqrt((samples**2).mean()) == pytest.approx(0.3 / np.sqrt(2), rel=0.1)


def test_16_bit_at_the_models_rate_is_exact(tmp_path: Path) -> None:
    pcm = np.random.default_rng(0).integers(-32768, 32768, 5_000, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", pcm, 16_000)
    assert np.array_equal(read(tmp_path / "a.wav"), pcm.astype(np.float32) / 32768)


def test_hopeless_files_are_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty.wav"
    empty.touch()
    text = tmp_path / "text.wav"
    text.write_text("this is no audio at all, whatever its name says\n" * 20)
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.zeros(0, dtype=np.int16), 16_000)
    for path, says in (
        (tmp_path / "missing.wav", "No such file"),
        (tmp_path, "is a folder"),
        (empty, "empty file"),
        (text, "not audio"),
        (silent, "has no samples"),
    ):
        message, samples = refusal(path)
        assert says in message
        assert str(path) in message
        assert len(samples) == 0


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_a_truncated_file_gives_its_samples_and_then_the_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 32_000)
    soundfile.write(path, noise, 16_000, subtype="PCM_16")
    whole = read(path)
    os.truncate(path, path.stat().st_size // 2)
    message, samples = refusal(path)
    assert 8_000 < len(samples) < 20_000
    assert np.array_equal(samples, whole[: len(samples)])
    assert str(path) in message


def test_a_truncated_wav_says_how_much_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(1_000, dtype=np.int16), 16_000)
    os.truncate(path, path.stat().st_size - 500)
    assert missing_wav_bytes(path) == 500
    assert "truncated: 500 bytes" in refusal(path)[0]


@pytest.mark.parametrize("placeholder", [0xFFFFFFFF, 0x7FFFFFFF - 36])
def test_a_streaming_writers_header_is_not_a_truncation(tmp_path: Path, placeholder: int) -> None:
    pcm = np.arange(4_000, dtype=np.int16)
    path = tmp_path / "a.wav"
    soundfile.write(path, pcm, 16_000)
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", placeholder)
    path.write_bytes(data)
    assert np.array_equal(read(path), pcm.astype(np.float32) / 32768)


def test_samples_that_are_not_numbers_end_the_file(tmp_path: Path) -> None:
    samples = tone(1.0, 16_000)
    samples[9_000] = np.nan
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 16_000, subtype="FLOAT")
    message, heard = refusal(path)
    assert "NaN" in message
    assert 7_000 <= len(heard) <= 9_000


def test_standard_input_is_read_as_it_comes() -> None:
    pcm = np.arange(-4_000, 4_000, dtype="<i2")
    read_end, write_end = os.pipe()
    with FileIO(read_end) as raw, FileIO(write_end, "wb") as writer:
        blocks = PcmInput(raw).blocks()
        writer.write(pcm[:100].tobytes() + b"\x01")
        first = next(blocks)
        assert len(first) == 100
        writer.write(b"\x02")
        assert next(blocks).tolist() == [0x0201 / 32768]
        writer.close()
        assert list(blocks) == []


@pytest.mark.parametrize(("data", "says"), [(b"", "no samples"), (b"\x00\x00\x00", "1 bytes")])
def test_standard_input_that_is_not_pcm(data: bytes, says: str) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, data)
    os.close(write_end)
    with (
        FileIO(read_end) as raw,
        pytest.raises(AudioFormatError, match=says),
    ):
        list(PcmInput(raw).blocks())


def test_real_time_takes_as_long_as_the_sound() -> None:
    blocks = [np.zeros(1_600, dtype=np.float32)] * 3
    start_seconds = time.monotonic()
    assert len(list(in_real_time(iter(blocks), 16_000, threading.Event()))) == 3
    assert 0.3 <= time.monotonic() - start_seconds < 0.6


def test_real_time_stops_when_told() -> None:
    stop = threading.Event()
    stop.set()
    endless = itertools.repeat(np.zeros(160_000, dtype=np.float32))
    assert list(in_real_time(endless, 16_000, stop)) == []
