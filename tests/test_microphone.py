"""The microphone through real PortAudio, heard from a virtual sound card."""

import subprocess
import sys
import time
import wave
from pathlib import Path

import numpy as np
import pytest

from streamasr.capture.microphone import Microphone, list_devices
from streamasr.config import CaptureConfig
from streamasr.errors import CaptureError, DeviceLostError
from tests.virtual_microphone import VirtualMicrophone

LIMIT_SECONDS = 20


@pytest.fixture
def heard(
    virtual_microphone: VirtualMicrophone, monkeypatch: pytest.MonkeyPatch
) -> VirtualMicrophone:
    """The virtual microphone, as this process's default."""
    for name, value in virtual_microphone.environment.items():
        monkeypatch.setenv(name, value)
    return virtual_microphone


def save(path: Path, pcm: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(pcm.astype("<i2").tobytes())
    return path


def listen(microphone: Microphone, enough) -> np.ndarray:
    """Everything heard until ``enough(samples)``."""
    samples = np.zeros(0, dtype=np.float32)
    deadline = time.monotonic() + LIMIT_SECONDS
    while not enough(samples):
        assert time.monotonic() < deadline, "not heard in time"
        samples = np.concatenate([samples, microphone.read()])
    return samples


def test_what_is_played_is_heard_sample_for_sample(
    heard: VirtualMicrophone, tmp_path: Path
) -> None:
    pcm = np.random.default_rng(5).integers(-9_000, 9_000, 16_000, dtype=np.int16)
    pcm[0] = 9_001
    microphone = Microphone(CaptureConfig())
    try:
        assert microphone.rate_hz == 16_000
        microphone.read()
        heard.play(save(tmp_path / "noise.wav", pcm))

        def whole(samples: np.ndarray) -> bool:
            return len(samples) - (np.argmax(samples != 0) if samples.any() else 10**9) >= 17_000

        samples = listen(microphone, whole)
        first = int(np.argmax(samples != 0))
        assert np.array_equal(samples[first : first + 16_000], pcm.astype(np.float32) / 32768)
        assert microphone.overrun_samples == 0
    finally:
        microphone.close()


def test_sound_that_nobody_reads_is_counted(heard: VirtualMicrophone) -> None:
    microphone = Microphone(CaptureConfig(ring_seconds=0.2))
    try:
        microphone.read()
        deadline = time.monotonic() + LIMIT_SECONDS
        while microphone.overrun_samples == 0:
            assert time.monotonic() < deadline, "no overrun was counted"
        microphone.read()
        assert microphone.overrun_samples > 0
    finally:
        microphone.close()


def test_a_device_that_goes_away_is_noticed_and_can_come_back(heard: VirtualMicrophone) -> None:
    microphone = Microphone(CaptureConfig())
    microphone.read()
    heard.stop()
    try:
        with pytest.raises(DeviceLostError, match="no more sound"):
            listen(microphone, lambda samples: len(samples) > 16_000 * LIMIT_SECONDS)
    finally:
        microphone.close()
    with pytest.raises(CaptureError, match="--input"):
        Microphone(CaptureConfig())
    heard.start()
    again = Microphone(CaptureConfig())
    try:
        assert len(listen(again, lambda samples: len(samples) > 0)) > 0
    finally:
        again.close()


def test_who_cannot_open_it_again_waits_longer(heard: VirtualMicrophone) -> None:
    microphone = Microphone(CaptureConfig(), silent_seconds=1.5)
    microphone.read()
    heard.stop()
    stopped_at = time.monotonic()
    try:
        with pytest.raises(DeviceLostError, match="no more sound"):
            listen(microphone, lambda samples: len(samples) > 16_000 * LIMIT_SECONDS)
        assert time.monotonic() - stopped_at >= 1.5
    finally:
        microphone.close()


def test_devices_are_listed_and_chosen_by_name_or_index(heard: VirtualMicrophone) -> None:
    devices = list_devices()
    default = next(device for device in devices if device.is_default)
    for wanted in (str(default.index), default.name.upper()):
        microphone = Microphone(CaptureConfig(device=wanted))
        try:
            assert microphone.device == default
        finally:
            microphone.close()
    with pytest.raises(CaptureError, match="no microphone matches 'kazoo'; choose"):
        Microphone(CaptureConfig(device="kazoo"))


def test_looking_for_microphones_prints_nothing(tmp_path: Path) -> None:
    """Without any sound card PortAudio would write dozens of lines on stderr."""
    looking = (
        "from streamasr.capture.microphone import Microphone\n"
        "from streamasr.config import CaptureConfig\n"
        "from streamasr.errors import CaptureError\n"
        "try:\n    Microphone(CaptureConfig(device='kazoo'))\n"
        "except CaptureError as error:\n    print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", looking],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=True,
    )
    assert run.stderr == ""
    assert "microphone" in run.stdout
    assert run.stdout.count("\n") == 1
