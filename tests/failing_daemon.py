"""The real program with a part that fails once, as soon as a file is there.

``python -m tests.failing_daemon network FILE serve …`` lacks memory in the network's next step,
``worker`` in the worker itself, where no stream can be blamed.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamasr.__main__ import main
from streamasr.acoustic.model import AcousticModel
from streamasr.serve.status import Metrics


def failing(function: Callable[..., Any], trigger: Path) -> Callable[..., Any]:
    """``function``, but once."""

    def fail(*arguments: object, **options: object) -> object:
        if trigger.exists():
            trigger.unlink()
            raise MemoryError("none is left")
        return function(*arguments, **options)

    return fail


if __name__ == "__main__":
    part, trigger = sys.argv.pop(1), Path(sys.argv.pop(1))
    if part == "network":
        AcousticModel.step = failing(AcousticModel.step, trigger)
    if part == "worker":
        Metrics.observe = failing(Metrics.observe, trigger)
    main()
