"""The microphone through real PortAudio, heard from a virtual sound card."""

import os
import subprocess
import sys
import time
import wave
from pathlib import Path

import numpy as np
import pytest

from streamasr.capture.microphone import Counts, Device, Microphone, list_devices
from streamasr.capture.search import MicrophoneSearch, server_sockets
from streamasr.config import CaptureConfig
from streamasr.errors import CaptureError, DeviceLostError
from tests.virtual_microphone import ALSA_CONFIG, VirtualMicrophone

LIMIT_SECONDS = 20


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
        assert microphone.counts.overrun_samples == 0
    finally:
        microphone.close()


def test_sound_that_nobody_reads_is_counted(heard: VirtualMicrophone) -> None:
    microphone = Microphone(CaptureConfig(ring_seconds=0.2))
    try:
        microphone.read()
        deadline = time.monotonic() + LIMIT_SECONDS
        while microphone.counts.overrun_samples == 0:
            assert time.monotonic() < deadline, "no overrun was counted"
        microphone.read()
        assert microphone.counts.overrun_samples > 0
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


def test_a_microphone_that_was_chosen_by_index_is_found_again_by_its_name(
    heard: VirtualMicrophone,
) -> None:
    """Another device has its index by then."""
    chosen = next(device for device in list_devices() if device.name != "default")
    search = MicrophoneSearch(CaptureConfig(device=str(chosen.index)), 16_000)
    search().close()
    heard.define("aaa", "type pulse")
    moved = next(device for device in list_devices() if device.name == chosen.name)
    assert moved.index != chosen.index
    again = search()
    assert again.device == moved
    again.close()


def test_a_card_that_comes_back_with_another_number_is_the_same(heard: VirtualMicrophone) -> None:
    heard.define("Mic", "type pulse")
    lost = Device(9, "Mic (hw:1,0)", 1, 48_000, is_default=False)
    search = MicrophoneSearch(CaptureConfig(device="Mic"), 16_000, lost)
    again = search()
    assert again.device.name == "Mic"
    again.close()


def test_the_default_is_waited_for_before_another_is_taken(
    heard: VirtualMicrophone, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = Device(9, "a sound server", 1, 48_000, is_default=True)
    with pytest.raises(CaptureError, match="a sound server"):
        MicrophoneSearch(CaptureConfig(), 16_000, lost)()
    monkeypatch.setattr("streamasr.capture.search.SAME_DEVICE_SECONDS", 0.0)
    another = MicrophoneSearch(CaptureConfig(), 16_000, lost)()
    assert another.device.is_default
    another.close()


@pytest.mark.parametrize(
    ("server", "sockets"),
    [
        ("unix:/there", ["/there"]),
        ("{a machine}unix:/there", ["/there"]),
        ("/there", ["/there"]),
        ("tcp:192.168.1.20", []),
        ("", ["own/native", "pipewire-0"]),
    ],
)
def test_where_a_sound_server_listens(
    server: str, sockets: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULSE_SERVER", server)
    monkeypatch.setenv("PULSE_RUNTIME_PATH", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "own").mkdir()
    for name in ("own/native", "pipewire-0"):
        (tmp_path / name).touch()
    assert server_sockets() == [tmp_path / each for each in sockets]


def test_the_default_source_of_the_sound_server_is_followed(
    heard: VirtualMicrophone, tmp_path: Path
) -> None:
    heard.control("load-module", "module-null-sink", "sink_name=another", "norewinds=1")
    heard.control("set-default-source", "virtmic")
    noise = np.random.default_rng(5).integers(-9_000, 9_000, 16_000 * 60, dtype=np.int16)
    heard.play(save(tmp_path / "noise.wav", noise), sink="another")
    microphone = Microphone(CaptureConfig())
    try:
        assert not listen(microphone, lambda samples: len(samples) > 8_000).any()
        heard.control("set-default-source", "another.monitor")
        listen(microphone, np.any)
    finally:
        microphone.close()


def test_a_plain_alsa_device_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any sound server. ALSA's file device gives a ramp, again and again and as fast as
    it is taken."""
    if not ALSA_CONFIG.exists():
        pytest.skip("ALSA's configuration is not installed (apt install libasound2-data)")
    ramp = tmp_path / "ramp.raw"
    ramp.write_bytes(np.arange(10_000, dtype="<i2").tobytes())
    config = tmp_path / "asound.conf"
    config.write_text(
        f"<{ALSA_CONFIG}>\npcm.nowhere {{ type null }}\n"
        f"pcm.!default {{ type file file /dev/null infile {ramp} format raw slave.pcm nowhere }}\n"
    )
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(config))
    microphone = Microphone(CaptureConfig())
    try:
        pcm = microphone.read() * 32768
    finally:
        microphone.close()
    assert len(pcm) >= 1_280
    assert np.mean(np.diff(pcm) == 1) > 0.99  # what nobody reads in time is lost


def test_samples_at_full_scale_are_counted(heard: VirtualMicrophone, tmp_path: Path) -> None:
    pcm = np.zeros(8_000, dtype=np.int16)
    pcm[[0, 100, 200, 300, 400]] = 32_767, -32_768, -32_767, 32_766, -32_766
    microphone = Microphone(CaptureConfig())
    try:
        microphone.read()
        heard.play(save(tmp_path / "loud.wav", pcm))
        listen(microphone, lambda samples: samples.any() and not samples[-1_600:].any())
        assert microphone.counts == Counts(clipped_samples=3)
    finally:
        microphone.close()


@pytest.mark.parametrize("sink", ["here", "nowhere"])
def test_looking_for_microphones_prints_nothing_and_loses_nothing(
    sink: str, virtual_microphone: VirtualMicrophone
) -> None:
    """PortAudio would write dozens of lines on stderr, with a sound server and without. What
    others write there meanwhile is not lost."""
    if sink == "nowhere":
        virtual_microphone.stop()
    looking = (
        "import sys, threading\n"
        "from streamasr.capture.microphone import Microphone\n"
        "from streamasr.config import CaptureConfig\n"
        "from streamasr.errors import CaptureError\n"
        "done = threading.Event()\n"
        "def write():\n"
        "    for number in range(10**9):\n"
        "        print(number, file=sys.stderr)\n"
        "        if done.wait(0.001): return\n"
        "writer = threading.Thread(target=write)\n"
        "writer.start()\n"
        "for _ in range(3):\n"
        "    try: Microphone(CaptureConfig()).close()\n"
        "    except CaptureError as error: print(error)\n"
        "done.set()\n"
        "writer.join()\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", looking],
        env=os.environ | virtual_microphone.environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=True,
    )
    lines = run.stderr.split()
    assert lines == [str(number) for number in range(len(lines))]
    assert len(lines) > 3
    assert run.stdout.count("there is no microphone") == (3 if sink == "nowhere" else 0)
