"""SIGHUP: the settings and every file that they name are read again, while everybody goes on.

The new recognizer is loaded on a thread; if anything is wrong with it, or with the settings,
nothing changes. Then new streams use it, and each of the others goes on with it as soon as no
utterance of it is in progress.
"""

import asyncio
import ctypes
import gc
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, replace

from streamasr.config import Config
from streamasr.decoder.expected import Expected
from streamasr.engine import Engine
from streamasr.errors import ConfigError, ProtocolError, StreamasrError
from streamasr.history import History, open_history
from streamasr.recognizer import Recognizer
from streamasr.serve.speaker import search_for

FIXED_SECTIONS = ("capture", "serve")
"""They belong to open sockets and an open microphone."""

log = logging.getLogger(__name__)

Apply = Callable[[Config, History | None], None]


class Reloader:
    """Reloads whenever it was asked to, one time after the other.

    ``read`` makes the settings anew. ``apply`` gets those that count from now on, and the
    history that goes with them: ``history`` as long as the file is the same. ``around`` makes
    what a reload happens within.
    """

    def __init__(
        self,
        engine: Engine,
        config: Config,
        read: Callable[[], Config],
        apply: Apply,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
        history: History | None = None,
    ) -> None:
        self._engine = engine
        self._config = config
        self._read = read
        self._apply = apply
        self._around = around
        self._history = history
        self._wanted = asyncio.Event()

    def ask(self) -> None:
        """Reload as soon as the one in progress, if any, is done."""
        self._wanted.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                with self._around():
                    await self._reload()
            except StreamasrError as error:
                log.error("not reloaded, all stays as it was: %s", error)
            except Exception:
                log.exception("not reloaded, all stays as it was")
            try:
                await self._engine.beside("trim", give_memory_back)
            except Exception:
                log.exception("the old model's memory is not given back")

    async def _reload(self) -> None:
        """Raises StreamasrError; then nothing has changed."""
        started_seconds = time.monotonic()
        gc.disable()  # it would hold up all threads, the microphone's too, several times a load
        try:
            await self._exchange()
        finally:
            gc.enable()
        seconds = time.monotonic() - started_seconds
        log.info("reloaded in %.1f s: %s", seconds, self._engine.recognizer.model_name)

    async def _exchange(self) -> None:
        """Raises StreamasrError; then nothing has changed."""
        self._config, recognizer, self._history = await self._engine.beside("reload", self._load)
        self._engine.recognizer = recognizer
        self._apply(self._config, self._history)
        if recognizer.unspoken:
            log.warning("%s", recognizer.unspoken)
        await self._move_streams()

    def _load(self) -> tuple[Config, Recognizer, History | None]:
        """Read everything. Raises StreamasrError."""
        config = self._read()
        recognizer = Recognizer.load(config.model, config.decoder, config.endpoint)
        rate_hz = self._engine.recognizer.sample_rate_hz
        if recognizer.sample_rate_hz != rate_hz:
            raise ConfigError(
                f"the checkpoint hears {recognizer.sample_rate_hz} Hz, the one before "
                f"{rate_hz} Hz: restart instead"
            )
        history = open_history(config.history, self._history)
        return keep_fixed(self._config, config), recognizer, history

    async def _move_streams(self) -> None:
        """Returns when each was moved or is in the middle of an utterance."""
        recognizer = self._engine.recognizer
        streams = [each for each in self._engine.streams if each.recognizer is not recognizer]
        tried: list[Future[None]] = []
        for stream in streams:
            try:
                search = None
                if stream.wishes.expected != Expected():
                    search, _ = await search_for(self._engine, stream.wishes.expected)
                tried.append(self._engine.move(stream, search))
            except ProtocolError:  # which quotes what a client expects: not for the log
                log.warning("%s keeps its model: the new one lacks its phrases", stream.name)
            except Exception:
                log.exception("%s keeps its model", stream.name)
        await asyncio.gather(*map(asyncio.wrap_future, tried))


def keep_fixed(old: Config, new: Config) -> Config:
    """``new``, but what needs a restart as in ``old``, and a line in the log where that differs."""
    changed = [
        f"{section}.{setting.name}"
        for section in FIXED_SECTIONS
        for setting in fields(getattr(old, section))
        if getattr(getattr(old, section), setting.name)
        != getattr(getattr(new, section), setting.name)
    ]
    if changed:
        log.warning("restart to change %s", ", ".join(changed))
    return replace(new, **{section: getattr(old, section) for section in FIXED_SECTIONS})


def give_memory_back() -> None:
    """What the old recognizer took goes back to the system, not only to the allocator.

    All threads wait while the garbage collector walks through a recognizer (0.15 s), so it does
    that once: then the new one is frozen, and not looked at again before the next reload.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)
