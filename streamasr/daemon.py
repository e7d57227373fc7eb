"""The daemon: sound in, words out, until it is told to stop.

It binds its address, loads the recognizer, opens its input, and only then says that it
listens. On SIGTERM or SIGINT, and where a file or standard input ends, it drains: pending
finals go to every speaker and viewer, then it exits; within two seconds. SIGHUP reloads
(reload.py), SIGUSR1 shows what it does (signals.py).
"""

import asyncio
import io
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from streamasr.captions.terminal import TerminalCaptions
from streamasr.capture.listener import Listener, State
from streamasr.capture.microphone import Microphone
from streamasr.capture.wavfile import AudioFile, PcmInput, in_real_time
from streamasr.config import Config
from streamasr.counters import Counters
from streamasr.engine import Engine
from streamasr.engine_stream import EngineStream
from streamasr.errors import CaptureError
from streamasr.events import Event, Final
from streamasr.frontend.resample import Samples
from streamasr.history import History, open_history
from streamasr.logs import Logs
from streamasr.recognizer import Recognizer
from streamasr.reload import Reloader
from streamasr.serve.doors import Doors, open_doors
from streamasr.serve.peer import MicrophoneStatus
from streamasr.serve.server import Server
from streamasr.serve.status import Metrics
from streamasr.signals import Signals

STDIN = 0
# The parts of the two seconds that a stop may take.
STOP_INPUT_SECONDS = 0.2
LAST_FINAL_SECONDS = 0.5
DRAIN_SECONDS = 0.5
LAST_LINE_SECONDS = 0.2

log = logging.getLogger(__name__)

Source = Microphone | AudioFile | PcmInput | None


def run(config: Config, read: Callable[[], Config], *, captions: bool = False) -> None:
    """Run until stopped or until the input ends; ``read`` makes ``config`` anew. Raises
    StreamasrError."""
    logs = Logs(has_captions=captions)
    try:
        _run(config, read, logs, captions=captions)
    finally:
        logs.stop()


def _run(config: Config, read: Callable[[], Config], logs: Logs, *, captions: bool) -> None:
    signals = Signals(logs.file)
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    doors = open_doors(config.serve)
    with closing(doors):
        # Nothing was heard yet: a stop while the model loads has nothing to flush.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os._exit(0))
        history = open_history(config.history)
        recognizer = Recognizer.load(config.model, config.decoder, config.endpoint)
        if recognizer.unspoken:
            print(f"streamasr: {recognizer.unspoken}", file=sys.stderr)
        source = open_source(config, recognizer.sample_rate_hz)
        daemon = Daemon(config, recognizer, source, history, captions=captions)
        del recognizer  # where it is replaced, it must be free to go
        asyncio.run(daemon.run(doors, signals, read))
        # The interpreter would free object by object what the system frees at once, for a second;
        # and abort where a thread that loads a recognizer is in the middle of C++.
        logs.stop()
        sys.stdout.flush()
        os._exit(0)


def open_source(config: Config, sample_rate_hz: int) -> Source:
    """What ``--input`` names, opened; the fallback where there is no microphone.

    Raises CaptureError or AudioFormatError.
    """
    capture = config.capture
    if capture.input == "none":
        return None
    if capture.input == "-":
        return PcmInput(io.FileIO(STDIN, closefd=False), sample_rate_hz, block_ms=capture.block_ms)
    if capture.input != "mic":
        return AudioFile(Path(capture.input), sample_rate_hz, capture.block_ms)
    try:
        return Microphone(capture, sample_rate_hz)
    except CaptureError as error:
        if capture.fallback is None:
            raise
        problem = str(error).partition(";")[0]
        print(f"streamasr: {problem}: playing {capture.fallback} instead", file=sys.stderr)
        return AudioFile(capture.fallback, sample_rate_hz, capture.block_ms)


class Daemon:
    """One run of the service; everything but the listener's thread is on the event loop."""

    def __init__(
        self,
        config: Config,
        recognizer: Recognizer,
        source: Source,
        history: History | None,
        *,
        captions: bool,
    ) -> None:
        self._config = config
        self._source = source
        self._history = history
        self._sample_rate_hz = recognizer.sample_rate_hz
        self._metrics = metrics = Metrics(recognizer.model_name)
        self._engine = Engine(
            recognizer,
            max_backlog_seconds=config.serve.max_backlog_seconds,
            observe=metrics.observe,
        )
        self._server = Server(self._engine, config.serve, metrics, self._status)
        self._counters = Counters(self._engine, metrics, self._status)
        self._counting: asyncio.Task[None] | None = None
        self._captions = TerminalCaptions() if captions else None
        self._state: State | None = None if source is None else "ok"
        self._stream: EngineStream | None = None
        self._listener: Listener | None = None
        self._stopped = asyncio.Event()
        self._failure: Exception | None = None

    async def run(self, doors: Doors, signals: Signals, read: Callable[[], Config]) -> None:
        """Serve until a signal or the end of the input. Raises what ended the input."""
        reloader = Reloader(self._engine, self._config, read, self._apply)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopped.set)
        self._engine.start()
        try:
            await self._server.start(doors)
            self._announce(doors)
            self._listen()
            self._apply(self._config, self._history)
            signals.attach(reloader.ask, self._stopped.set, self._counters.since_start)
            reloading = asyncio.create_task(reloader.run())
            await self._stopped.wait()
            reloading.cancel()
            await self._drain()
        finally:
            if self._history is not None:
                self._history.close(LAST_LINE_SECONDS)
            self._engine.close(STOP_INPUT_SECONDS)
            if self._captions is not None:
                self._captions.close()
        if self._failure is not None:
            raise self._failure

    def _announce(self, doors: Doors) -> None:
        secure = "" if doors.tls is None else "s"
        main = _shown(doors.main)
        print(f"listening on ws{secure}://{main}/v1", flush=True)
        print(f"captions page: http{secure}://{main}/", flush=True)
        if doors.vosk is not None:
            print(f"vosk: ws{secure}://{_shown(doors.vosk)}/", flush=True)
        if doors.wyoming is not None:
            print(f"wyoming: tcp://{_shown(doors.wyoming)}", flush=True)

    def _listen(self) -> None:
        """Carry the input into a stream whose events every viewer gets."""
        if self._source is None:
            return
        loop = asyncio.get_running_loop()
        name = "microphone" if isinstance(self._source, Microphone) else "input"
        self._stream = self._engine.open(self._show, self._fail, name=name)
        self._listener = listener = Listener(self._stream, self._sample_rate_hz)
        if isinstance(self._source, Microphone):
            listener.listen(
                self._source,
                lambda: Microphone(self._config.capture, self._sample_rate_hz),
                lambda state: _call(loop, lambda: self._change(state)),
            )
        else:
            listener.play(self._blocks(self._source, listener.stopping))
        ended = asyncio.wrap_future(listener.ended)
        ended.add_done_callback(self._input_ended)

    def _blocks(self, source: AudioFile | PcmInput, stopping: threading.Event) -> Iterator[Samples]:
        """A file as fast as it sounds, a pipe as fast as it comes."""
        if isinstance(source, PcmInput):
            return source.blocks()
        return in_real_time(source.blocks(), self._sample_rate_hz, stopping)

    def _show(self, events: list[Event]) -> None:
        self._server.publish(events)
        if self._history is not None:
            for event in events:
                if isinstance(event, Final):
                    self._history.write(event)
        if self._captions is not None:
            self._captions.show(events)

    def _apply(self, config: Config, history: History | None) -> None:
        """From now on ``config`` counts, and the engine's recognizer."""
        self._metrics.show_model(self._engine.recognizer.model_name)
        self._engine.logs_text = config.log.utterance_text
        if self._history is not None and self._history is not history:
            self._history.close()
        self._history = history
        if self._counting is not None:
            self._counting.cancel()
        if config.log.counters_seconds:
            self._counting = asyncio.create_task(self._count(config.log.counters_seconds))

    async def _count(self, every_seconds: float) -> None:
        while True:
            await asyncio.sleep(every_seconds)
            log.info("%s", self._counters.since_last())

    def _fail(self, failure: Exception) -> None:
        self._failure = failure
        self._stopped.set()

    def _input_ended(self, ended: "asyncio.Future[None]") -> None:
        if not ended.cancelled():
            self._failure = self._failure or ended.exception()  # type: ignore[assignment]
            self._stopped.set()

    def _change(self, state: State) -> None:
        self._state = state
        self._server.publish_status()
        if state == "recovered":
            self._state = "ok"

    def _status(self) -> MicrophoneStatus:
        if self._stream is None or self._listener is None or self._state is None:
            return MicrophoneStatus()
        stream = self._stream
        lag_ms = round(stream.backlog_seconds * 1000)
        return MicrophoneStatus(self._state, lag_ms, self._listener.dropped_ms, stream.fed_seconds)

    async def _drain(self) -> None:
        """The input's last final first, so that viewers get it; then everybody's own."""
        if self._stream is not None and self._listener is not None:
            await asyncio.to_thread(self._listener.stop, STOP_INPUT_SECONDS)
            last = asyncio.wrap_future(self._stream.finish("eof"))
            await asyncio.wait((last,), timeout=LAST_FINAL_SECONDS)
            if not last.done():
                self._stream.discard_backlog()
                await asyncio.wait((last,), timeout=LAST_FINAL_SECONDS)
        await self._server.drain(DRAIN_SECONDS)


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """From another thread; nothing where the loop has ended meanwhile."""
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:
        if not loop.is_closed():
            raise
