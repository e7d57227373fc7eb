"""Fixtures that more than one test module uses."""

import signal
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from streamasr.config import DecoderConfig, EndpointConfig, ModelConfig
from tests.virtual_microphone import VirtualMicrophone, why_missing

RECORDINGS = Path(__file__).parent / "recordings"
FIRST_SENTENCE_SECONDS = 6.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """For tests/test_conformance.py, which can be pointed at any server."""
    parser.addoption("--url", help="server to test, as ws://127.0.0.1:8765/v1")
    parser.addoption("--token", help="its token, where it needs one")


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard() -> None:
    """A shell without job control makes what it starts in the background ignore SIGINT, and so
    would every program under test."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def recognizer():
    """The recognizer that is shipped, loaded once."""
    from streamasr.recognizer import Recognizer

    return Recognizer.load(ModelConfig(), DecoderConfig(), EndpointConfig())


@pytest.fixture(scope="session")
def another_recognizer():
    """A second one, loaded from the same files."""
    from streamasr.recognizer import Recognizer

    return Recognizer.load(ModelConfig(), DecoderConfig(), EndpointConfig())


@pytest.fixture(scope="session")
def restless():
    """One whose network hears silence, too."""
    from streamasr.recognizer import Recognizer

    return Recognizer.load(ModelConfig(rest=False), DecoderConfig(), EndpointConfig())


@pytest.fixture(scope="session")
def demo() -> npt.NDArray[np.float32]:
    """The whole bundled recording as mono samples at 16 kHz."""
    samples, rate_hz = soundfile.read(RECORDINGS / "demo.flac", dtype="float32")
    assert rate_hz == 16_000
    return samples


@pytest.fixture(scope="session")
def demo_pcm() -> bytes:
    """The first sentence of the bundled recording as s16le mono at 16 kHz.

    One is enough where words are not compared, and some tests speak it in real time.
    """
    samples, rate_hz = soundfile.read(RECORDINGS / "demo.flac", dtype="int16")
    assert rate_hz == 16_000
    assert samples.ndim == 1
    return samples[: int(FIRST_SENTENCE_SECONDS * rate_hz)].tobytes()


@pytest.fixture
def demo_wav(tmp_path: Path, demo_pcm: bytes) -> Path:
    """The first sentence of the bundled recording as a WAV file."""
    path = tmp_path / "demo.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(demo_pcm)
    return path


@pytest.fixture
def virtual_microphone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualMicrophone]:
    """A microphone that hears what the test plays; skipped where PulseAudio is missing."""
    missing = why_missing()
    if missing is not None:
        pytest.skip(missing)
    microphone = VirtualMicrophone(tmp_path_factory.mktemp("pulse"))
    microphone.start()
    try:
        yield microphone
    finally:
        microphone.stop()


@pytest.fixture
def heard(
    virtual_microphone: VirtualMicrophone, monkeypatch: pytest.MonkeyPatch
) -> VirtualMicrophone:
    """The virtual microphone, as this process's default."""
    for name, value in virtual_microphone.environment.items():
        monkeypatch.setenv(name, value)
    return virtual_microphone
