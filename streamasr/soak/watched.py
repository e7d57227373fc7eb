"""The daemon under watch: the real program as a process of its own, fed through a pipe.

What it does is seen from outside, as an operator would see it: its /metrics, and what Linux
says about it below /proc.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from streamasr.errors import StreamasrError

START_SECONDS = 120.0
END_SECONDS = 10.0
POLL_SECONDS = 0.1
STALL_SECONDS = 120.0
SETTLE_LOOKS = 10
_ANNOUNCEMENT = "listening on "
_CHUNK = "streamasr_chunk_compute_seconds_bucket"


class DaemonFailedError(StreamasrError):
    """The daemon has ended or stands still."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What /metrics said at one moment, since the daemon started. ``chunks`` has how many
    chunks took no longer than each bound in seconds."""

    audio_seconds: float
    cpu_seconds: float
    finals: int
    lost_seconds: float
    chunks: dict[float, float]

    def load_since(self, before: "Reading") -> float:
        """Processor seconds for a second of the audio that was heard since ``before``."""
        audio_seconds = self.audio_seconds - before.audio_seconds
        return round((self.cpu_seconds - before.cpu_seconds) / audio_seconds, 4)


@dataclass(frozen=True, slots=True)
class Resources:
    """What Linux says of the process: memory in MB that is resident, and that no file backs."""

    resident_mb: float
    anonymous_mb: float
    open_files: int
    threads: int


class Watched:
    """A running ``streamasr serve --input -``."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.url = url
        self._process = process
        self._address = urlsplit(url).netloc
        self._proc = Path(f"/proc/{process.pid}")

    async def hear(self, pcm: bytes) -> None:
        """Write s16le at 16 kHz, as soon as it is taken. Raises DaemonFailedError."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(pcm)
            await self._process.stdin.drain()
        except ConnectionError:
            raise await self._failed() from None

    async def read(self) -> Reading:
        """Ask /metrics. Raises DaemonFailedError."""
        try:
            return await asyncio.to_thread(self._read)
        except (OSError, HTTPException):
            raise await self._failed() from None

    async def caught_up(self, audio_seconds: float) -> Reading:
        """What /metrics says once all streams together have heard so much.

        Raises DaemonFailedError where nothing more is heard for ``STALL_SECONDS``.
        """
        loop = asyncio.get_running_loop()
        heard_seconds, since = -1.0, loop.time()
        while True:
            reading = await self.read()
            if reading.audio_seconds >= audio_seconds - 1e-3:
                return reading
            if reading.audio_seconds > heard_seconds:
                heard_seconds, since = reading.audio_seconds, loop.time()
            if loop.time() - since > STALL_SECONDS:
                raise DaemonFailedError(
                    f"the daemon stands still: it has heard {heard_seconds:.1f} s of "
                    f"{audio_seconds:.1f} s of audio"
                )
            await asyncio.sleep(POLL_SECONDS)

    async def settled(self) -> Resources:
        """The resources now, but of several looks the fewest open files: those who have just
        left may still have one."""
        looks = []
        for _ in range(SETTLE_LOOKS):
            await asyncio.sleep(POLL_SECONDS)
            looks.append(await self.resources())
        return min(looks, key=lambda look: look.open_files)

    async def resources(self) -> Resources:
        """As they are now. Raises DaemonFailedError."""
        try:
            status = _numbers(self._proc / "status")
            return Resources(
                resident_mb=status["VmRSS"] / 1024,
                anonymous_mb=status["RssAnon"] / 1024,
                open_files=len(list((self._proc / "fd").iterdir())),
                threads=status["Threads"],
            )
        except (OSError, KeyError):  # of a process that has ended little is left
            raise await self._failed() from None

    async def end(self) -> int:
        """Close its input and wait; its exit code. Raises DaemonFailedError after a while."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(END_SECONDS):
                return await self._process.wait()
        except TimeoutError:
            raise DaemonFailedError(f"the daemon did not end within {END_SECONDS:g} s") from None

    def _read(self) -> Reading:
        connection = HTTPConnection(self._address, timeout=STALL_SECONDS)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]
        plain = {sample.name: sample.value for sample in samples if not sample.labels}
        return Reading(
            audio_seconds=plain["streamasr_audio_seconds_total"],
            cpu_seconds=plain["process_cpu_seconds_total"],
            finals=int(plain["streamasr_finals_total"]),
            lost_seconds=plain["streamasr_microphone_overrun_seconds"],
            chunks={float(s.labels["le"]): s.value for s in samples if s.name == _CHUNK},
        )

    async def _failed(self) -> DaemonFailedError:
        try:
            async with asyncio.timeout(END_SECONDS):
                code = await self._process.wait()
        except TimeoutError:
            return DaemonFailedError("the daemon does not answer any more")
        return DaemonFailedError(f"the daemon ended with exit code {code}")


@asynccontextmanager
async def watched() -> AsyncIterator[Watched]:
    """Start the daemon; it is killed at the end where it still runs.

    Raises DaemonFailedError where it does not start.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streamasr", "serve", "--input", "-", "--port", "0"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl+C is for us, who then close its input
    )
    assert process.stdout is not None
    line = ""
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                line = (await process.stdout.readline()).decode()
        if not line.startswith(_ANNOUNCEMENT):
            raise DaemonFailedError("the daemon did not start; what it said stands above")
        reading = asyncio.create_task(process.stdout.read())
        yield Watched(process, line.removeprefix(_ANNOUNCEMENT).strip())
        reading.cancel()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _numbers(path: Path) -> dict[str, int]:
    """``Name:  123 kB`` or ``Name:  123``, line by line."""
    values = {}
    for line in path.read_text().splitlines():
        name, _, rest = line.partition(":")
        number = rest.split()[:1]
        if number and number[0].isdecimal():
            values[name] = int(number[0])
    return values
