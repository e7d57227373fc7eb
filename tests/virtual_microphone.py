"""A microphone without a sound card: a private PulseAudio whose source hears its own sink.

What ``play`` is given comes out of ALSA's ``default`` device sample for sample.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("pulseaudio", "paplay", "pactl")
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
        self._alsa = folder / "asound.conf"
        self._alsa.write_text(f"<{ALSA_CONFIG}>\n")
        self.define("!default", "type pulse")
        self.environment = {
            "PULSE_SERVER": f"unix:{self._socket}",
            "PULSE_RUNTIME_PATH": str(folder),
            "PULSE_STATE_PATH": str(folder),
            "PULSE_COOKIE": str(folder / "cookie"),
            "ALSA_CONFIG_PATH": str(self._alsa),
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
            # Without rewinds it hands over every 50 ms, from the beginning; else after up to 2 s.
            "--load=module-null-sink sink_name=virtspk rate=16000 channels=1 format=s16le"
            " norewinds=1",
            "--load=module-remap-source source_name=virtmic master=virtspk.monitor",
        )
        # Until the server answers, it is asked again.
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert server.poll() is None, "pulseaudio ended at once"
            assert time.monotonic() < deadline, "pulseaudio does not answer"

    def define(self, name: str, what: str) -> None:
        """One more ALSA device."""
        with self._alsa.open("a") as config:
            config.write(f"pcm.{name} {{ {what} }}\nctl.{name} {{ {what} }}\n")

    def play(self, wav: Path, sink: str = "virtspk") -> "subprocess.Popen[bytes]":
        """Say ``wav`` into the microphone, or to another sink; returns at once."""
        return self._spawn("paplay", f"--device={sink}", str(wav))

    def recorders(self) -> set[int]:
        """The process ids of all that record from it now."""
        listed = self.control("list", "source-outputs")
        return {int(pid) for pid in re.findall(r'application.process.id = "(\d+)"', listed)}

    def freeze(self) -> None:
        """The sound server hangs until ``thaw``."""
        self._processes[0].send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._processes[0].send_signal(signal.SIGCONT)

    @contextmanager
    def hanging(self) -> Iterator[socket.socket]:
        """In the place of a server that was killed: takes connections and never answers."""
        self._socket.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(self._socket))
            server.listen()
            server.settimeout(START_SECONDS)
            yield server

    def kill(self) -> None:
        """The sound server dies, and with it whoever records or plays."""
        self._processes[0].kill()
        self.stop()

    def stop(self) -> None:
        """Pull the plug."""
        for process in reversed(self._processes):
            process.terminate()
            process.send_signal(signal.SIGCONT)
        for process in self._processes:
            process.wait(timeout=START_SECONDS)
        self._processes.clear()

    def control(self, *arguments: str) -> str:
        """What ``pactl`` answers."""
        return self._pactl(*arguments, check=True)

    def _answers(self) -> bool:
        return "virtmic" in self._pactl("list", "short", "sources", check=False)

    def _pactl(self, *arguments: str, check: bool) -> str:
        return subprocess.run(
            ["pactl", *arguments],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=check,
        ).stdout

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
