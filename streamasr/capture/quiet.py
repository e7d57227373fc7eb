"""Silences what sound libraries print.

ALSA, JACK and PortAudio write 60 to 80 lines to C's ``stderr`` while they look around, and some
more, from threads of their own, when a device goes away. Python and its log write to file
descriptor 2 themselves. So C's variable ``stderr`` is pointed at the null device, and the
descriptor is left alone: no line of the log is ever lost. Given up: what a C library prints
before it aborts (``faulthandler`` and glibc's own checks use the descriptor).
"""

import ctypes
import functools
import os
import platform


@functools.cache
def silence_c_stderr() -> None:
    """For the rest of the process. Does nothing where the C library is not glibc."""
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    nowhere = libc.fopen(os.fsencode(os.devnull), b"we")
    if nowhere:
        ctypes.c_void_p.in_dll(libc, "stderr").value = nowhere
