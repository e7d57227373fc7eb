"""``streamasr devices``: what it says of a virtual microphone, and its meter on a terminal."""

import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.virtual_microphone import VirtualMicrophone

LIMIT_SECONDS = 30
DEVICES = ("-m", "streamasr", "devices")


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    """A minute at a tenth of full scale, -20 dB."""
    path = tmp_path / "tone.wav"
    pcm = np.round(3276.8 * np.sin(np.arange(60 * 16_000) / 5))
    soundfile.write(path, pcm.astype(np.int16), 16_000)
    return path


def devices(microphone: VirtualMicrophone | None, *arguments: str) -> tuple[int, str, str]:
    """Its exit code, output and complaint."""
    return run(microphone, *DEVICES, *arguments)


def run(microphone: VirtualMicrophone | None, *arguments: str) -> tuple[int, str, str]:
    """Of Python with these arguments."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | (microphone.environment if microphone is not None else {}),
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_each_device_with_its_rates_and_its_level(
    virtual_microphone: VirtualMicrophone, tone: Path
) -> None:
    virtual_microphone.play(tone)
    code, printed, complaint = devices(virtual_microphone)
    assert (code, complaint) == (0, "")
    lines = printed.splitlines()
    default = next(number for number, line in enumerate(lines) if line.endswith("(default)"))
    assert "in 16 bits: 16000 44100 48000" in lines[default]
    assert "█  -20 dB peak, -23 dB RMS" in lines[default + 1].replace("░", "")


def test_a_sound_server_that_hangs_is_named(virtual_microphone: VirtualMicrophone) -> None:
    impatient = (
        "import sys\n"
        "from streamasr import cli, devices\n"
        "devices.ANSWER_SECONDS = 1.0\n"
        "sys.exit(cli.main(['devices', '--seconds', '0']))\n"
    )
    virtual_microphone.freeze()
    try:
        code, printed, complaint = run(virtual_microphone, "-c", impatient)
    finally:
        virtual_microphone.thaw()
    assert (code, printed) == (3, "")
    assert "the sound system does not answer within 1 s" in complaint


def test_a_muted_microphone_is_told_from_a_quiet_room(
    virtual_microphone: VirtualMicrophone, tone: Path
) -> None:
    virtual_microphone.play(tone)
    virtual_microphone.control("set-source-mute", "@DEFAULT_SOURCE@", "1")
    code, printed, _ = devices(virtual_microphone)
    assert code == 0
    assert "pure digital silence; muted in the mixer? pactl set-source-mute" in printed


def test_without_listening_only_the_list_is_printed(virtual_microphone: VirtualMicrophone) -> None:
    code, printed, _ = devices(virtual_microphone, "--seconds", "0")
    assert code == 0
    assert "dB" not in printed
    assert "digital silence" not in printed


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--seconds", "-1"), "--seconds must be 0..60"),
        (("--watch",), "--watch draws on a terminal"),
        (("--device", "default"), "--device goes with --watch only"),
    ],
)
def test_what_cannot_be_is_one_line(arguments: tuple[str, ...], problem: str) -> None:
    code, printed, complaint = devices(None, *arguments)
    assert (code, printed) == (2, "")
    assert problem in complaint
    assert complaint.count("\n") == 1


def test_the_live_meter_goes_on_until_ctrl_c(
    virtual_microphone: VirtualMicrophone, tone: Path
) -> None:
    virtual_microphone.play(tone)
    terminal, child = pty.openpty()
    with subprocess.Popen(
        [sys.executable, *DEVICES, "--watch"],
        env=os.environ | virtual_microphone.environment,
        stdout=child,
    ) as meter:
        os.close(child)
        shown = b""
        while "RMS  -23 dB" not in shown.decode(errors="replace"):
            assert select.select([terminal], [], [], LIMIT_SECONDS)[0], "no meter"
            shown += os.read(terminal, 1000)
        meter.send_signal(signal.SIGINT)
        assert meter.wait(LIMIT_SECONDS) == 0
    os.close(terminal)
