"""``python -m tests.measure_daemon``: what the daemon costs, on PulseAudio's virtual microphone.

From start to ready; the processor while nobody speaks; how long muting takes. Nothing else should
run meanwhile. It takes eight minutes.
"""

import asyncio
import json
import statistics
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import soundfile
from websockets.asyncio.client import ClientConnection, connect

from tests.running_daemon import Program, processor_seconds, program, receive_until
from tests.virtual_microphone import VirtualMicrophone, why_missing

RATE_HZ = 16_000
DEMO = Path(__file__).parent / "recordings" / "demo.flac"
STARTS = 7
MUTES = 15
WINDOWS = 3
WINDOW_SECONDS = 30.0
GETTING_USED_SECONDS = 30.0
ROOM_LEVEL = 1e-3  # -60 dB of full scale
LIMIT_SECONDS = 600.0
MUTE = json.dumps({"type": "mute"})
UNMUTE = json.dumps({"type": "unmute"})


def spread(values: Sequence[float], form: str) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}}, {len(values)} times)"


async def measure_starts(microphone: VirtualMicrophone) -> None:
    starts: list[tuple[float, str]] = []
    for _ in range(STARTS):
        async with started(microphone) as (daemon, line):
            total, _, parts = line.partition("ready after ")[2].partition(" s: ")
            starts.append((float(total), parts))
            await daemon.stop()
    print(f"ready after {spread([seconds for seconds, _ in starts], '.2f')} s")
    print(f"  in the middle: {statistics.median_low(starts)[1]}")


async def measure_idle(microphone: VirtualMicrophone, room: Path) -> None:
    async with started(microphone) as (daemon, _):
        for name, sound in (("zeros", None), ("a quiet room", room)):
            if sound is not None:
                microphone.play(sound)
            await asyncio.sleep(GETTING_USED_SECONDS)
            print(f"idle, {name}: {await share_of_a_core(daemon)}")
        microphone.kill()
        print(f"without its microphone: {await share_of_a_core(daemon)}")
    microphone.start()


async def share_of_a_core(daemon: Program) -> str:
    shares = []
    for _ in range(WINDOWS):
        before = processor_seconds(daemon)
        await asyncio.sleep(WINDOW_SECONDS)
        shares.append((processor_seconds(daemon) - before) / WINDOW_SECONDS)
    return f"{spread(shares, '.2%')} of a core"


async def measure_mutes(microphone: VirtualMicrophone) -> None:
    times: dict[str, list[float]] = {"mute": [], "mute in a sentence": [], "unmute": []}
    async with started(microphone) as (daemon, _), connect(daemon.url) as client:
        await until_microphone(client, "ok")
        for _ in range(MUTES):
            times["mute"].append(await seconds_until(client, MUTE, "muted"))
            times["unmute"].append(await seconds_until(client, UNMUTE, "ok"))
            player = microphone.play(DEMO)
            await receive_until(client, type="partial")
            times["mute in a sentence"].append(await seconds_until(client, MUTE, "muted"))
            player.kill()
            times["unmute"].append(await seconds_until(client, UNMUTE, "ok"))
    for name, seconds in times.items():
        print(f"{name}: {spread([1000 * each for each in seconds], '.0f')} ms")


async def seconds_until(client: ClientConnection, message: str, state: str) -> float:
    loop = asyncio.get_running_loop()
    begin_seconds = loop.time()
    await client.send(message)
    await until_microphone(client, state)
    return loop.time() - begin_seconds


async def until_microphone(client: ClientConnection, state: str) -> None:
    await receive_until(client, type="status", microphone=state)


@asynccontextmanager
async def started(microphone: VirtualMicrophone) -> AsyncIterator[tuple[Program, str]]:
    """A daemon that hears ``microphone``, and the line that says it is ready."""
    async with program(
        environment=microphone.environment,
        stderr=asyncio.subprocess.PIPE,
        limit_seconds=LIMIT_SECONDS,
    ) as daemon:
        yield daemon, await daemon.log_line("ready after")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder) / "room.wav"
        seconds = GETTING_USED_SECONDS + WINDOWS * WINDOW_SECONDS + 10
        noise = np.random.default_rng(1).standard_normal(round(seconds * RATE_HZ))
        soundfile.write(room, ROOM_LEVEL * noise, RATE_HZ)
        microphone = VirtualMicrophone(Path(folder))
        microphone.start()
        try:
            await measure_starts(microphone)
            await measure_idle(microphone, room)
            await measure_mutes(microphone)
        finally:
            microphone.stop()


if __name__ == "__main__":
    if (missing := why_missing()) is not None:
        raise SystemExit(missing)
    asyncio.run(main())
