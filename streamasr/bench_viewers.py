"""``streamasr bench --viewers N``: how soon viewers see what was said, and who slows whom.

The server, with its engine, hears the bundled recording in real time and shows it to N
viewers, which live in a process of their own. Measured is from when the event loop publishes
an event to when a viewer has read it. Every other time one more viewer listens that reads its
greeting and then nothing: it may lose what it likes, the others nothing.
"""

import asyncio
import json
import multiprocessing
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from streamasr.capture.wavfile import AudioFile, in_real_time
from streamasr.config import Config, ServeConfig, shipped
from streamasr.engine import Engine
from streamasr.events import Event, Final, Partial
from streamasr.recognizer import Recognizer
from streamasr.serve.doors import open_doors
from streamasr.serve.peer import MicrophoneStatus
from streamasr.serve.server import Server
from streamasr.serve.status import Metrics

ROUNDS = 3  # of each kind
CONNECT_SECONDS = 60.0
DRAIN_SECONDS = 5.0
BLOCK_MS = 80
SLOW_BUFFER_BYTES = 4096

_Key = tuple[object, ...]


@dataclass(slots=True)
class _Round:
    """What was published when, and what arrived when, on the clock of the machine."""

    published: dict[_Key, float] = field(default_factory=dict)
    finals: int = 0

    def note(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, Partial | Final):
                self.published[_key_of(event)] = time.monotonic()
                self.finals += isinstance(event, Final)

    def latencies_ms(self, arrivals: Iterable[tuple[_Key, float]]) -> list[float]:
        return [1000 * (at - self.published[key]) for key, at in arrivals]


def bench_viewers(viewers: int, config: Config) -> dict[str, object]:
    """The figures; latencies are milliseconds over all viewers and events of all rounds."""
    recognizer = Recognizer.load(config.model, config.decoder, config.endpoint)
    rounds: dict[bool, list[float]] = {False: [], True: []}
    p95_ms: dict[bool, list[float]] = {False: [], True: []}
    finals = {"said": 0, "fewest_seen": 0}
    for has_slow in (False, True) * ROUNDS:
        said, arrivals = asyncio.run(_round(recognizer, config, viewers, has_slow=has_slow))
        latencies = [ms for each in arrivals for ms in said.latencies_ms(each)]
        rounds[has_slow] += latencies
        p95_ms[has_slow].append(float(np.percentile(latencies, 95)))
        seen = min(sum(key[0] == "final" for key, _ in each) for each in arrivals)
        finals = {"said": finals["said"] + said.finals, "fewest_seen": finals["fewest_seen"] + seen}
    ratios = [slow / alone for alone, slow in zip(p95_ms[False], p95_ms[True], strict=True)]
    return {
        "viewers": viewers,
        "latency_ms": _percentiles(rounds[False]),
        "latency_ms_beside_a_slow_viewer": _percentiles(rounds[True]),
        "p95_ratio": {
            "median": round(float(np.median(ratios)), 3),
            "least": round(min(ratios), 3),
            "most": round(max(ratios), 3),
        },
        "finals": finals,
    }


def _percentiles(values_ms: list[float]) -> dict[str, float]:
    return {f"p{share}": round(float(np.percentile(values_ms, share)), 2) for share in (50, 95, 99)}


async def _round(
    recognizer: Recognizer, config: Config, viewers: int, *, has_slow: bool
) -> tuple[_Round, list[list[tuple[_Key, float]]]]:
    """The recording once, and what each of the viewers saw of it."""
    serve = ServeConfig(port=0, max_connections=viewers + 1, max_half_open=viewers + 1)
    doors = open_doors(serve)
    metrics = Metrics(recognizer.model_name)
    engine = Engine(recognizer, observe=metrics.observe)
    engine.start()
    server = Server(engine, serve, metrics, lambda: MicrophoneStatus("ok"))
    await server.start(doors)
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    url = f"ws://127.0.0.1:{doors.main.getsockname()[1]}/v1"
    watching = spawn.Process(target=_watch, args=(theirs, url, viewers, has_slow), daemon=True)
    watching.start()
    theirs.close()  # so that its end is seen here
    said = _Round()

    def show(events: list[Event]) -> None:
        said.note(events)
        server.publish(events)

    try:
        await asyncio.to_thread(ours.recv)
        await _speak(engine, recognizer.sample_rate_hz, show)
        await server.drain(DRAIN_SECONDS)
        arrivals: list[list[tuple[_Key, float]]] = await asyncio.to_thread(ours.recv)
        return said, arrivals
    finally:
        watching.terminate()
        engine.close()


async def _speak(engine: Engine, rate_hz: int, show: Any) -> None:
    audio = AudioFile(shipped("tests", "recordings", "demo.flac"), rate_hz, BLOCK_MS)
    failure: list[Exception] = []
    stream = engine.open(show, failure.append)

    def feed() -> None:
        for samples in in_real_time(audio.blocks(), rate_hz, threading.Event()):
            stream.feed(samples)

    await asyncio.to_thread(feed)
    await asyncio.wrap_future(stream.finish())
    if failure:
        raise failure[0]


def _watch(pipe: Connection, url: str, viewers: int, has_slow: bool) -> None:
    """The viewers' process: says when all are greeted, and at the end what they saw."""
    asyncio.run(_watch_all(pipe, url, viewers, has_slow))


async def _watch_all(pipe: Connection, url: str, viewers: int, has_slow: bool) -> None:
    connections = []
    for _ in range(viewers):
        connections.append(await connect(url, compression=None, open_timeout=CONNECT_SECONDS))
        await connections[-1].recv()
    if has_slow:
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER_BYTES)
        host, port = url.removeprefix("ws://").removesuffix("/v1").split(":")
        narrow.connect((host, int(port)))
        slow = await connect(url, sock=narrow, compression=None, max_queue=1)
        await slow.recv()
    pipe.send("ready")
    pipe.send(await asyncio.gather(*map(_look, connections)))


async def _look(connection: ClientConnection) -> list[tuple[_Key, float]]:
    arrivals: list[tuple[_Key, float]] = []
    while True:
        try:
            text = await connection.recv()
        except ConnectionClosed:
            return arrivals
        at = time.monotonic()
        message = json.loads(text)
        if message["type"] in ("partial", "final"):
            arrivals.append((_key(message), at))


def _key(message: Mapping[str, Any]) -> _Key:
    return message["type"], message["utterance"], message["end"], message["text"]


def _key_of(event: Partial | Final) -> _Key:
    kind = "final" if isinstance(event, Final) else "partial"
    return kind, event.utterance, round(event.end_seconds, 3), event.text
