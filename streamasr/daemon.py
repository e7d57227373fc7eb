"""The daemon: sound in, words out, until it is told to stop.

It binds its address, loads the recognizer, opens its input, and only then says that it
listens; systemd is told that it is ready when the first sound came. On SIGTERM or SIGINT, and
where a file or standard input ends, it drains: pending finals go to every speaker and viewer,
then it exits; within two seconds. SIGHUP reloads (reload.py), SIGUSR1 shows what it does
(signals.py), SIGUSR2 mutes the microphone, and the next one opens it again.
"""

import asyncio
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

from streamasr.captions.printer import CaptionsPrinter
from streamasr.capture.listener import Listener, State
from streamasr.capture.microphone import Microphone
from streamasr.capture.mute import MuteSwitch
from streamasr.capture.search import MicrophoneSearch
from streamasr.capture.source import Awaited, Source, open_source
from streamasr.capture.wavfile import AudioFile, PcmInput, in_real_time
from streamasr.config import Config
from streamasr.counters import Counters
from streamasr.engine import Engine, call_on
from streamasr.engine_stream import EngineStream
from streamasr.errors import StreamasrError, complain
from streamasr.events import Event, Final
from streamasr.frontend.resample import Samples
from streamasr.history import History, open_history
from streamasr.logs import Logs
from streamasr.notify import Heartbeat, Notifier
from streamasr.recognizer import Recognizer
from streamasr.reload import Reloader
from streamasr.serve.doors import Doors, open_doors
from streamasr.serve.peer import MicrophoneStatus
from streamasr.serve.server import Server
from streamasr.serve.shortage import Shortage
from streamasr.serve.status import Metrics
from streamasr.signals import Signals
from streamasr.startup import Startup
from streamasr.wire.native import MicrophoneState

# The parts of the two seconds that a stop may take: finals, the worker, the history, the captions,
# the log.
FINALS_SECONDS = 1.2
STOP_INPUT_SECONDS = 0.2
LAST_FINAL_SECONDS = 0.4
CUT_FINAL_SECONDS = 0.2
LAST_LINE_SECONDS = 0.2

log = logging.getLogger(__name__)

SAYS: dict[MicrophoneState, str] = {
    "ok": "listening to the microphone",
    "recovered": "listening to the microphone",
    "lost": "waiting for the microphone",
    "muted": "muted",
    "none": "no microphone of its own",
}


def run(config: Config, read: Callable[[], Config], *, captions: bool, startup: Startup) -> None:
    """Run until stopped or until the input ends; ``read`` makes ``config`` anew. Raises
    StreamasrError."""
    logs = Logs(has_captions=captions)
    try:
        _run(config, read, logs, captions=captions, startup=startup)
    finally:
        logs.stop()


def _run(
    config: Config,
    read: Callable[[], Config],
    logs: Logs,
    *,
    captions: bool,
    startup: Startup,
) -> None:
    """Once there is something to drain it never returns: it leaves with its exit code."""
    signals = Signals(logs.file)
    switch = MuteSwitch.of_environment()
    may_mute = config.capture.input == "mic"
    signal.signal(
        signal.SIGUSR2, (lambda *_: switch.set(not switch.is_muted)) if may_mute else signal.SIG_IGN
    )
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    doors = open_doors(config.serve)
    with closing(doors):
        # Nothing was heard yet: a stop while the model loads has nothing to flush.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os._exit(0))
        startup.lap("addresses")
        history = open_history(config.history)
        recognizer = Recognizer.load(config.model, config.decoder, config.endpoint, startup.lap)
        startup.loaded()
        if recognizer.unspoken:
            log.warning("%s", recognizer.unspoken)
        source = open_source(config.capture, recognizer.sample_rate_hz, muted=switch.is_muted)
        startup.lap("input")
        daemon = Daemon(
            config, recognizer, source, switch, history, captions=captions, startup=startup
        )
        del recognizer  # where it is replaced, it must be free to go
        failure: StreamasrError | None = None
        try:
            # Never closed: then a late signal would do what it does by default, which is to kill.
            asyncio.new_event_loop().run_until_complete(daemon.run(doors, signals, read))
        except StreamasrError as error:
            failure = error
        finally:
            _let_go_of_stdout()
        logs.stop()
        if failure is not None:
            _complain_in_time(str(failure))
        # To free the models takes a second, and a reload that is still loading would abort.
        os._exit(0 if failure is None else failure.exit_code)


class Daemon:
    """One run of the service; everything but the listener's thread is on the event loop."""

    def __init__(
        self,
        config: Config,
        recognizer: Recognizer,
        source: Source,
        switch: MuteSwitch,
        history: History | None,
        *,
        captions: bool,
        startup: Startup,
    ) -> None:
        self._config = config
        self._source = source
        self._switch = switch
        self._has_microphone = isinstance(source, Microphone | Awaited)
        self._history = history
        self._sample_rate_hz = recognizer.sample_rate_hz
        self._metrics = metrics = Metrics(recognizer.model_name)
        self._engine = Engine(
            recognizer,
            max_backlog_seconds=config.serve.max_backlog_seconds,
            observe=metrics.observe,
        )
        self._server = Server(
            self._engine,
            config.serve,
            metrics,
            self._status,
            self._set_muted if self._has_microphone else None,
        )
        self._counters = Counters(self._engine, metrics, self._status)
        self._counting: asyncio.Task[None] | None = None
        self._captions = CaptionsPrinter() if captions else None
        self._state: State | None = None if source is None else "ok"
        if isinstance(source, Awaited):
            self._state = "muted" if switch.is_muted else "lost"
        self._stream: EngineStream | None = None
        self._listener: Listener | None = None
        self._stopped = asyncio.Event()
        self._failure: Exception | None = None
        self._startup = startup
        self._notifier = Notifier()
        self._heartbeat = Heartbeat(
            self._notifier, self._in_words, self._stalled_seconds, may_wait=config.capture.wait
        )

    async def run(self, doors: Doors, signals: Signals, read: Callable[[], Config]) -> None:
        """Serve until a signal or the end of the input. Raises what ended the input."""
        reloader = Reloader(
            self._engine,
            self._config,
            read,
            self._apply,
            self._heartbeat.reloading,
            self._history,
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopped.set)
        loop.add_signal_handler(signal.SIGUSR2, self._toggle_mute)
        loop.set_exception_handler(Shortage().handle)
        self._engine.start(self._fail)
        try:
            await self._server.start(doors)
            signals.attach(reloader.ask, self._stopped.set, self._counters.since_start)
            self._announce(doors)
            self._listen()
            self._startup.lap("servers")
            self._apply(self._config, self._history)
            if not self._has_microphone:
                self._ready()
            beside = [
                asyncio.create_task(self._heartbeat.run()),
                asyncio.create_task(reloader.run()),
            ]
            await self._stopped.wait()
            self._notifier.stopping()
            for task in beside:
                task.cancel()
            await self._drain()
        finally:
            if self._history is not None:
                self._history.close(LAST_LINE_SECONDS)
            self._engine.close(STOP_INPUT_SECONDS)
            if self._captions is not None:
                self._captions.close(LAST_LINE_SECONDS)
        if self._failure is not None:
            raise self._failure

    def _announce(self, doors: Doors) -> None:
        secure = "" if doors.tls is None else "s"
        main = _shown(doors.main)
        _say(f"listening on ws{secure}://{main}/v1")
        _say(f"captions page: http{secure}://{main}/")
        if doors.vosk is not None:
            _say(f"vosk: ws{secure}://{_shown(doors.vosk)}/")
        if doors.wyoming is not None:
            _say(f"wyoming: tcp://{_shown(doors.wyoming)}")

    def _listen(self) -> None:
        """Carry the input into a stream whose events every viewer gets."""
        if self._source is None:
            return
        loop = asyncio.get_running_loop()
        name = "microphone" if self._has_microphone else "input"
        self._stream = self._engine.open(self._show, self._fail, name=name)
        self._listener = listener = Listener(self._stream, self._sample_rate_hz)
        if isinstance(self._source, Microphone | Awaited):
            if self._switch.is_muted:
                listener.mute()
            opened = self._source if isinstance(self._source, Microphone) else None
            device = None if opened is None else opened.device
            listener.listen(
                opened,
                MicrophoneSearch(self._config.capture, self._sample_rate_hz, device),
                lambda state: call_on(loop, lambda: self._change(state)),
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

    def _set_muted(self, muted: bool) -> bool:
        """See SetMuted."""
        self._switch.set(muted)
        listener = self._listener
        if listener is None:  # it is told when it begins, and tells when it has
            return True
        was_changing = self._is_changing(listener)
        (listener.mute if muted else listener.unmute)()
        if self._is_changing(listener):
            return True
        if was_changing:  # what somebody else asked for is not going to be done
            self._server.publish_status()
        return was_changing

    def _is_changing(self, listener: Listener) -> bool:
        """Whether a mute or unmute has not been carried out yet."""
        if listener.wants_mute:
            return not (listener.is_closed and self._state == "muted")
        return self._state == "muted" or listener.is_closed

    def _toggle_mute(self) -> None:
        if self._has_microphone:
            self._set_muted(not self._switch.is_muted)
        else:
            log.warning("SIGUSR2: no microphone is heard that could be muted")

    def _change(self, state: State) -> None:
        if state != self._state or state == "muted":  # which is told as often as it was asked for
            self._state = state
            is_withdrawn = state == "muted" and not self._switch.is_muted
            if not is_withdrawn:
                self._server.publish_status()
        if state == "recovered":
            self._state = "ok"
        if state != "lost":
            self._ready()
        self._heartbeat.tell()

    def _status(self) -> MicrophoneStatus:
        if self._stream is None or self._listener is None or self._state is None:
            return MicrophoneStatus()
        counts = self._listener.counts
        return MicrophoneStatus(
            self._state,
            lag_ms=round(self._stream.backlog_seconds * 1000),
            dropped_ms=self._listener.dropped_ms,
            audio_seconds=self._stream.fed_seconds,
            clipped_samples=counts.clipped_samples,
            overflows=counts.overflows,
            drift_ppm=self._listener.drift_ppm,
            is_changing=self._is_changing(self._listener),
        )

    def _ready(self) -> None:
        """The first sound came, or none is wanted. The first call counts."""
        if self._heartbeat.ready():
            if self._has_microphone:
                self._startup.lap("first sound")
            log.info("%s", self._startup)

    def _in_words(self) -> str:
        """The state, for people."""
        speakers, viewers = self._server.speakers_and_viewers()
        doing = SAYS[self._status().state]
        if isinstance(self._source, AudioFile):
            doing = "playing a file"
        if isinstance(self._source, PcmInput):
            doing = "hearing standard input"
        return f"{doing}; {speakers} speaking, {viewers} viewing"

    def _stalled_seconds(self) -> float:
        """For how long the slower of worker and microphone's reader has shown no life."""
        stalled_seconds = self._engine.stalled_seconds
        if self._listener is not None:
            stalled_seconds = max(stalled_seconds, self._listener.stalled_seconds)
        return stalled_seconds

    async def _drain(self) -> None:
        """The input's last final first, so that viewers get it; then everybody's own, in the time
        that is left."""
        loop = asyncio.get_running_loop()
        end_seconds = loop.time() + FINALS_SECONDS
        if self._stream is not None and self._listener is not None:
            await asyncio.to_thread(self._listener.stop, STOP_INPUT_SECONDS)
            last = asyncio.wrap_future(self._stream.finish("eof"))
            await asyncio.wait((last,), timeout=LAST_FINAL_SECONDS)
            if not last.done():
                self._stream.discard_backlog()
                await asyncio.wait((last,), timeout=CUT_FINAL_SECONDS)
        await self._server.drain((end_seconds - loop.time()) / 2)


def _say(line: str) -> None:
    """For whoever looks on. Where nobody can (the disk is full, the reader has gone) the service
    goes on all the same."""
    with suppress(OSError):
        print(line, flush=True)


def _complain_in_time(text: str) -> None:
    """Nobody may be reading."""
    writer = threading.Thread(target=complain, args=(text,), daemon=True)
    writer.start()
    writer.join(LAST_LINE_SECONDS)


def _let_go_of_stdout() -> None:
    """What could not be written is tried again when the program ends; that must not decide its
    exit code."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
