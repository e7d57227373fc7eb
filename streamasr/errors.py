"""Every error that streamasr raises on purpose.

::

    StreamasrError            exit code 1
    ├── ConfigError           exit code 2   a setting, flag or configuration file
    ├── AudioFormatError      exit code 3   audio that cannot be read as audio
    ├── CaptureError          exit code 3   a microphone or input that cannot be opened
    │   └── DeviceLostError                 a microphone that was open and went silent
    ├── CheckpointError       exit code 4   an acoustic checkpoint
    ├── LanguageModelError    exit code 4   an n-gram model or a lexicon
    ├── AddressError          exit code 5   a network address that cannot be bound or reached
    ├── ServiceError          exit code 1   systemd refused to install or start the service
    ├── ProtocolError         goes back on the wire with its ``code``
    └── StreamFinished        samples fed to a stream after ``finish()``

Messages are one line that names the problem and the mend. The command line prints
that line and exits with ``exit_code``; anything that is not a StreamasrError is a
defect and keeps its traceback.
"""

import sys
from contextlib import suppress


class StreamasrError(Exception):
    """Root of the tree; carries the exit code of the command line."""

    exit_code = 1


class ConfigError(StreamasrError):
    """A setting is unknown, of the wrong type or out of range."""

    exit_code = 2


class AudioFormatError(StreamasrError):
    """The bytes are not audio that can be read."""

    exit_code = 3


class CaptureError(StreamasrError):
    """No sound can be captured from where it was asked for."""

    exit_code = 3


class DeviceLostError(CaptureError):
    """A microphone that was open gives no more blocks."""


class CheckpointError(StreamasrError):
    """An acoustic checkpoint is missing, damaged or made for something else."""

    exit_code = 4


class LanguageModelError(StreamasrError):
    """A language model or lexicon is missing, damaged or made for something else."""

    exit_code = 4


class AddressError(StreamasrError):
    """A network address cannot be bound or reached."""

    exit_code = 5


class ServiceError(StreamasrError):
    """systemd refused to install or start the service."""


class ProtocolError(StreamasrError):
    """A peer sent what the protocol does not allow.

    ``code`` is the short word for machines that goes on the wire; the message is the
    sentence for people. ``fatal`` says whether the connection ends with it.
    """

    def __init__(self, code: str, message: str, *, fatal: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.fatal = fatal


class StreamFinished(StreamasrError):
    """``feed()`` or ``finalize()`` was called after ``finish()``."""


def complain(text: str) -> None:
    """Say it to whoever started the program. Where nobody can read it, the exit code tells."""
    with suppress(OSError):
        print(f"streamasr: {text}", file=sys.stderr)
