"""Watches a daemon's microphone over the native protocol, and comes back when it is gone."""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from streamasr.captions.subtitle_file import SubtitleFile
from streamasr.captions.subtitles import SubtitleFormat
from streamasr.captions.terminal import TerminalCaptions
from streamasr.client import DEFAULT_URL, Client, ClientEvent, Connected, Lost
from streamasr.events import Final, Partial
from streamasr.wire.native_reader import ServerError, Status

MICROPHONE = {
    "lost": "the microphone is gone; waiting for it",
    "recovered": "the microphone is back",
    "muted": "the microphone is muted",
    "none": "the daemon has no microphone of its own",
}
SILENT = ("lost", "muted")


async def watch(
    url: str = DEFAULT_URL,
    *,
    token: str | None = None,
    ca_file: Path | None = None,
    srt: Path | None = None,
    vtt: Path | None = None,
) -> None:
    """Show captions until cancelled, and append them to subtitle files. Raises AddressError where
    the first connection fails or the daemon wants another token, ConfigError for a file that
    cannot be used, ProtocolError where the daemon refuses this viewer."""
    with ExitStack() as stack:
        wanted: list[tuple[Path | None, SubtitleFormat]] = [(srt, "srt"), (vtt, "vtt")]
        files = [
            stack.enter_context(closing(SubtitleFile(path, kind)))
            for path, kind in wanted
            if path is not None
        ]
        viewer = Viewer(stack.enter_context(closing(TerminalCaptions())), files)
        async with Client(url, token=token, ca_file=ca_file) as client:
            async for event in client:
                viewer.show(event)


class FileClock:
    """From a stream's time to seconds since captions first connected."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._begin: float | None = None
        self.shift_seconds = 0.0
        """To be added to the stream's time."""

    def begin_stream(self, audio_seconds: float) -> None:
        """A stream's clock stands at ``audio_seconds`` now."""
        now = self._now()
        if self._begin is None:
            self._begin = now
        self.shift_seconds = now - self._begin - audio_seconds


class Viewer:
    """What captions do with every event."""

    def __init__(
        self,
        captions: TerminalCaptions,
        files: Sequence[SubtitleFile],
        clock: FileClock | None = None,
    ) -> None:
        self._captions = captions
        self._files = files
        self._clock = clock or FileClock()
        self._microphone = "ok"
        self._was_lost = False

    def show(self, event: ClientEvent) -> None:
        """On the terminal, in the files, as a note."""
        match event:
            case Partial():
                self._captions.partial(event.text)
            case Final():
                for file in self._files:
                    file.append((event,), self._clock.shift_seconds)
                self._captions.final(event.text)
            case Connected():
                if not event.resumed:
                    self._clock.begin_stream(event.audio_seconds or 0.0)
                if self._was_lost:
                    _note("connected again" + ("" if event.resumed else "; words may be missing"))
            case Lost():
                self._was_lost = True
                self._captions.partial("")
                _note(f"{event.reason}; trying again")
            case Status() if event.microphone != self._microphone:
                if self._microphone in SILENT and event.audio_seconds is not None:
                    self._clock.begin_stream(event.audio_seconds)  # it stood still meanwhile
                if event.microphone in MICROPHONE:
                    _note(MICROPHONE[event.microphone])
                elif self._microphone == "muted":
                    _note("the microphone is not muted any more")
                self._microphone = event.microphone
            case ServerError():
                _note(event.message)


def _note(text: str) -> None:
    print(f"streamasr: {text}", file=sys.stderr, flush=True)
