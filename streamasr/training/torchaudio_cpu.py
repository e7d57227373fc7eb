"""torchaudio beside a CPU build of torch.

The torchaudio on PyPI links CUDA, so importing it next to a CPU-only torch raises OSError
while its compiled part is loaded. Everything written in Python works without that part:
transforms (mel spectrogram, masking, time stretch, speed), resampling, ``fftconvolve``,
``add_noise``. What needs it fails when called: ``forced_align`` and ``rnnt_loss``.
"""

import importlib
import sys
from types import ModuleType
from typing import Any, NoReturn


def load_torchaudio() -> ModuleType:
    """Import torchaudio, without its compiled part where that cannot be loaded.

    Raises ModuleNotFoundError where torchaudio is not installed.
    """
    try:
        return importlib.import_module("torchaudio")
    except OSError:
        _forget_torchaudio()
    sys.modules["torchaudio._extension"] = _stub_extension()
    try:
        return importlib.import_module("torchaudio")
    except BaseException:
        _forget_torchaudio()
        raise


def _forget_torchaudio() -> None:
    """Drop the modules of an import that stopped half way."""
    for name in list(sys.modules):
        if name == "torchaudio" or name.startswith("torchaudio."):
            del sys.modules[name]


def _stub_extension() -> ModuleType:
    """Stand in for ``torchaudio._extension`` and say that nothing compiled is there."""

    def fail_if_no_align(function: object) -> Any:
        def unavailable(*args: object, **kwargs: object) -> NoReturn:
            raise RuntimeError(
                f"{getattr(function, '__name__', 'this function')} needs the compiled part "
                "of torchaudio, which does not load beside this build of torch"
            )

        return unavailable

    stub = ModuleType("torchaudio._extension")
    names: dict[str, object] = {
        "_IS_TORCHAUDIO_EXT_AVAILABLE": False,
        "_IS_ALIGN_AVAILABLE": False,
        "_check_cuda_version": lambda: None,
        "fail_if_no_align": fail_if_no_align,
    }
    vars(stub).update(names)
    return stub
