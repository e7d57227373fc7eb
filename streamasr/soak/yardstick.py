"""How fast the machine is at the moment: a fresh stream in our own process hears the control.

Other programs on the machine make a daemon slow that is not old. They slow this, too.
"""

import time
from collections.abc import Iterable

import numpy as np

from streamasr.config import Config
from streamasr.recognizer import Recognizer
from streamasr.training.manifest import Samples


class Yardstick:
    """A recognizer like the daemon's. Raises what ``Recognizer.load`` raises."""

    def __init__(self, control: Samples) -> None:
        config = Config()
        self._recognizer = Recognizer.load(config.model, config.decoder, config.endpoint)
        self._control = control
        self._seconds()  # first calls allocate and page in

    def measure(self, bounds: Iterable[float]) -> dict[float, float]:
        """How many chunks of the control took no longer than each bound in seconds, as a
        histogram of /metrics counts them."""
        seconds = np.array(self._seconds())
        return {bound: float(np.sum(seconds <= bound)) for bound in bounds}

    def _seconds(self) -> list[float]:
        stream = self._recognizer.stream()
        chunk_samples = self._recognizer.chunk_samples
        seconds = []
        for first in range(0, len(self._control), chunk_samples):
            started = time.perf_counter()
            stream.feed(self._control[first : first + chunk_samples])
            seconds.append(time.perf_counter() - started)
        return seconds
