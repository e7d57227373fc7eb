"""The real program with a part that hangs for ever.

``python -m tests.hanging_daemon network serve …`` hangs when it hears a voice, ``microphone``
after the first sound.
"""

import sys
import threading

from streamasr.__main__ import main
from streamasr.acoustic.model import AcousticModel
from streamasr.capture.microphone import Microphone
from streamasr.frontend.resample import Samples


def hang(*_: object) -> None:
    threading.Event().wait()


def read_once(microphone: Microphone) -> Samples:
    Microphone.read = hang
    return read(microphone)


if __name__ == "__main__":
    part = sys.argv.pop(1)
    if part == "network":
        AcousticModel.step = hang
    if part == "microphone":
        read = Microphone.read
        Microphone.read = read_once
    main()
