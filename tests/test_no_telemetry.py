"""Nobody is told what is done here: a library that would is kept from it."""

import os
import subprocess
import sys
from pathlib import Path

LIMIT_SECONDS = 60


def test_the_voice_detector_leaves_no_trace(tmp_path: Path) -> None:
    """onnxruntime keeps what it has to tell in a file below ~/.cache until it is sent; where it
    finds a CI machine it tells nothing of its own accord."""
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    subprocess.run(
        [sys.executable, "-c", "from streamasr.frontend.voice import *; VoiceDetector()"],
        env=environment | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")},
        timeout=LIMIT_SECONDS,
        check=True,
    )
    assert list(tmp_path.rglob("*")) == []
