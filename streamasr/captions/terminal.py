"""Live captions on standard output.

On a terminal: finals solid, and below them one growing line of tentative words, dim. In a
pipe: a line ``partial: ...`` whenever the tentative text changes, and ``final: ...``.
"""

import sys
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from streamasr.events import Event, Final, Partial


class TerminalCaptions:
    """Shows one stream's text. ``close`` gives the terminal back."""

    def __init__(self, output: TextIO | None = None) -> None:
        self._output = output or sys.stdout
        self._partial = ""
        self._live: Live | None = None
        if self._output.isatty():
            self._live = Live(
                Text(""), console=Console(file=self._output), auto_refresh=False, transient=True
            )
            self._live.start()

    def show(self, events: list[Event]) -> None:
        """Show what a stream said."""
        for event in events:
            if isinstance(event, Partial):
                self.partial(event.text)
            elif isinstance(event, Final):
                self.final(event.text)

    def partial(self, text: str) -> None:
        """The best reading so far takes the place of the one before."""
        if text == self._partial:
            return
        self._partial = text
        if self._live is not None:
            self._live.update(Text(text, style="dim italic", overflow="fold"), refresh=True)
        elif text:
            self._line(f"partial: {text}")

    def final(self, text: str) -> None:
        """An utterance has ended: its text stays."""
        self._partial = ""
        if self._live is not None:
            self._live.update(Text(""))
            self._live.console.print(Text(text))
            self._live.refresh()
        else:
            self._line(f"final: {text}")

    def close(self) -> None:
        """Give the terminal back."""
        if self._live is not None:
            self._live.stop()

    def _line(self, text: str) -> None:
        self._output.write(f"{text}\n")
        self._output.flush()
