"""A ring of samples between one writer and one reader, with an absolute sample clock.

Theory of operation. The writer is the sound card's callback, which must never wait; the
reader is the thread that feeds the recognizer. Nothing is locked. Instead the writer
publishes two counters, each with a single assignment::

    _reserved_samples   raised before the samples are stored: "up to here may be torn"
    _written_samples    raised after: "up to here is whole"

The reader copies what lies below ``_written_samples`` and looks at ``_reserved_samples``
afterwards: whatever the writer may have overwritten during the copy is cut off the front
and counted as overrun. That is sound for exactly one writer and one reader, because each
counter has one author and CPython makes the assignments visible in program order.

What must stay true: only the writer assigns the two counters, only the reader assigns
``_read_samples`` and ``_lost_samples``, and the writer raises ``_reserved_samples`` first.
"""

from typing import Any

import numpy as np
import numpy.typing as npt


class SampleRing:
    """Holds the newest ``capacity_samples`` mono samples; older unread ones are overrun."""

    def __init__(self, capacity_samples: int, dtype: npt.DTypeLike = np.float32) -> None:
        if capacity_samples < 1:
            raise ValueError(f"capacity_samples must be at least 1, not {capacity_samples}")
        self.capacity_samples = capacity_samples
        self._samples: npt.NDArray[Any] = np.zeros(capacity_samples, dtype=dtype)
        self._reserved_samples = 0
        self._written_samples = 0
        self._read_samples = 0
        self._lost_samples = 0

    @property
    def written_samples(self) -> int:
        """The sample clock: how many samples were ever written."""
        return self._written_samples

    @property
    def overrun_samples(self) -> int:
        """Samples that were overwritten before they were read, so far."""
        oldest = self._reserved_samples - self.capacity_samples
        return self._lost_samples + max(0, oldest - self._read_samples)

    @property
    def unread_samples(self) -> int:
        """Samples that ``read`` would return now."""
        return min(self._written_samples - self._read_samples, self.capacity_samples)

    def erase(self) -> None:
        """Overwrite and let go of all that it holds; the counts stay. It is not used after that."""
        self._samples.fill(0)
        self._samples = np.zeros(0, dtype=self._samples.dtype)

    def write(self, samples: npt.NDArray[Any]) -> None:
        """Append ``(n,)`` samples; never waits. The writer's side."""
        first = self._written_samples
        end = first + len(samples)
        if len(samples) > self.capacity_samples:
            first = end - self.capacity_samples
            samples = samples[-self.capacity_samples :]
        self._reserved_samples = end
        start = first % self.capacity_samples
        until_wrap = min(len(samples), self.capacity_samples - start)
        self._samples[start : start + until_wrap] = samples[:until_wrap]
        self._samples[: len(samples) - until_wrap] = samples[until_wrap:]
        self._written_samples = end

    def read(self, max_samples: int | None = None) -> tuple[int, npt.NDArray[Any]]:
        """Take the oldest unread samples: ``(index of the first, samples (n,))``.

        ``n`` is 0 where nothing is unread. An overrun shows as a first index larger than
        the end of the previous read, and in ``overrun_samples``. The reader's side.
        """
        end = self._written_samples
        first = max(self._read_samples, end - self.capacity_samples)
        if max_samples is not None:
            end = min(end, first + max_samples)
        start = first % self.capacity_samples
        until_wrap = min(end - first, self.capacity_samples - start)
        samples = np.concatenate(
            (
                self._samples[start : start + until_wrap],
                self._samples[: end - first - until_wrap],
            )
        )
        overwritten = min(end, self._reserved_samples - self.capacity_samples)
        if overwritten > first:
            samples = samples[overwritten - first :]
            first = overwritten
        self._lost_samples += first - self._read_samples
        self._read_samples = end
        return first, samples
