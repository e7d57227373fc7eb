"""A microphone without a sound card: a private PulseAudio whose source hears its own sink.

What ``play`` is given comes out of ALSA's ``default`` device sample for sample.
"""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

PROGRAMS = ("pulseaudio", "paplay", "parec", "pactl")
ALSA_CONFIG = Path("/usr/share/alsa/alsa.conf")
START_SECONDS = 10


def why_missing() -> str | None:
    """What this machine lacks for a virtual microphone; None where it has everything."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"{', '.join(missing)} not installed (apt install pulseaudio pulseaudio-utils)"
    if not ALSA_CONFIG.exists():
        return "ALSA's configuration is not installed (apt install libasound2-plugins)"
    return None


class VirtualMicrophone:
    """Runs until ``stop``; ``environment`` makes a program hear it."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "native"
        self._processes: list[subprocess.Popen[bytes]] = []
        alsa = folder / "asound.conf"
        alsa.write_text(
            f"<{ALSA_CONFIG}>\npcm.!default {{ type pulse }}\nctl.!default {{ type pulse }}\n"
        )
        self.environment = {
            "PULSE_SERVER": f"unix:{self._socket}",
            "PULSE_RUNTIME_PATH": str(folder),
            "PULSE_STATE_PATH": str(folder),
            "PULSE_COOKIE": str(folder / "cookie"),
            "ALSA_CONFIG_PATH": str(alsa),
        }

    def start(self) -> None:
        """Start, or start again after ``stop``."""
        self._socket.unlink(missing_ok=True)
        server = self._spawn(
            "pulseaudio",
            "-n",
            "--daemonize=no",
            "--exit-idle-time=-1",
            "--use-pid-file=no",
            "--realtime=no",
            "--high-priority=no",
            "--disable-shm=yes",
            f"--load=module-native-protocol-unix auth-anonymous=1 socket={self._socket}",
            "--load=module-null-sink sink_name=virtspk rate=16000 channels=1 format=s16le",
            "--load=module-remap-source source_name=virtmic master=virtspk.monitor",
        )
        # A recorder that always runs keeps the source awake: the first block of the next
        # one comes after 0.1 s instead of 1.6 s. Until the server answers, it is asked again.
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert server.poll() is None, "pulseaudio ended at once"
            assert time.monotonic() < deadline, "pulseaudio does not answer"
        self._spawn("parec", "--latency-msec=10", "-d", "virtmic")

    def play(self, wav: Path) -> "subprocess.Popen[bytes]":
        """Say ``wav`` into the microphone; returns at once."""
        return self._spawn("paplay", "--device=virtspk", str(wav))

    def recorders(self) -> set[int]:
        """The process ids of all that record from it now."""
        listed = self._pactl("list", "source-outputs")
        assert listed.returncode == 0, listed.stderr
        return {int(pid) for pid in re.findall(rb'application.process.id = "(\d+)"', listed.stdout)}

    def stop(self) -> None:
        """Pull the plug."""
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            process.wait(timeout=START_SECONDS)
        self._processes.clear()

    def _answers(self) -> bool:
        return b"virtmic" in self._pactl("list", "short", "sources").stdout

    def _pactl(self, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            ["pactl", *arguments],
            env=os.environ | self.environment,
            capture_output=True,
            timeout=START_SECONDS,
            check=False,
        )

    def _spawn(self, *command: str) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            command,
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._processes.append(process)
        return process
