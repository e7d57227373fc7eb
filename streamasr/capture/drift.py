"""How fast a sound card's clock runs, measured against the computer's."""

import math

import numpy as np

WINDOW_SECONDS = 10.0
FEWEST_WINDOWS = 18  # 3 minutes
MOST_WINDOWS = 180  # half an hour
JUMP_SECONDS = 0.02

Point = tuple[float, float]
"""When the least late block of a window came, and how late it was, in seconds."""


class ClockDrift:
    """Compares how much sound came with when it came.

    Theory of operation. A block can come late but not early, so the lateness of a block (when it
    came, less how long all the sound so far lasts) is a straight line, which the drift tilts,
    plus delays of some milliseconds that are never negative. Of every 10 s the block that was
    least late is kept. The slope is the median of the slopes between all pairs of these points
    (Theil and Sen), which a quarter of them may spoil without harm. It is told after 3 minutes
    and looks back half an hour. Where lateness jumps by 20 ms between two windows sound was lost
    or the machine slept: it begins anew. So does whoever opens a device: the first window holds
    the burst that a sound server begins with, and is left out.

    ``heard`` belongs to one thread; ``ppm`` may be read on any.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._frames = 0
        self._window_end_seconds = -math.inf
        self._best: Point | None = None
        self._points: tuple[Point, ...] | None = None
        self._told: tuple[tuple[Point, ...] | None, float | None] = (None, None)

    def heard(self, frames: int, at_seconds: float) -> None:
        """So many more frames came at ``at_seconds`` of the monotonic clock."""
        self._frames += frames
        late_seconds = at_seconds - self._frames / self._rate_hz
        if at_seconds >= self._window_end_seconds:
            if self._best is not None:
                self._keep(self._best)
            self._best = None
            self._window_end_seconds = at_seconds + WINDOW_SECONDS
        if self._best is None or late_seconds < self._best[1]:
            self._best = at_seconds, late_seconds

    @property
    def ppm(self) -> float | None:
        """Millionths that the card is too fast; None before there is enough to tell."""
        points = self._points
        if points is None or len(points) < FEWEST_WINDOWS:
            return None
        if self._told[0] is not points:
            self._told = points, -1e6 * _slope(points)
        return self._told[1]

    def _keep(self, point: Point) -> None:
        if self._points is None:
            self._points = ()
        elif self._points and abs(point[1] - self._points[-1][1]) > JUMP_SECONDS:
            self._points = (point,)
        else:
            self._points = (*self._points[1 - MOST_WINDOWS :], point)


def _slope(points: tuple[Point, ...]) -> float:
    """The median of the slopes between all pairs."""
    at_seconds, late_seconds = np.array(points).T
    first, second = np.triu_indices(len(points), 1)
    slopes = (late_seconds[second] - late_seconds[first]) / (at_seconds[second] - at_seconds[first])
    return float(np.median(slopes))
