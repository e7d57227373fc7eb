"""What only speaks the wire stays light, and so does what looks for broken packages: importing it
loads no torch and no recognizer."""

import importlib.util
import pkgutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

import streamasr

LIGHT_PACKAGES = ("wire", "client", "captions", "doctor", "music")
HEAVY = (
    "torch",
    "onnxruntime",
    "streamasr.acoustic",
    "streamasr.decoder",
    "streamasr.recognizer",
    "streamasr.training",
)


def light_modules() -> Iterator[str]:
    """Every module of the light rooms that exists, found without importing it."""
    yield from ("streamasr", "streamasr.events", "streamasr.errors", "streamasr.config")
    for package in LIGHT_PACKAGES:
        name = f"{streamasr.__name__}.{package}"
        spec = importlib.util.find_spec(name)
        if spec is None:
            continue
        yield name
        for module in pkgutil.walk_packages(spec.submodule_search_locations, f"{name}."):
            if not module.name.endswith("__main__"):
                yield module.name


def heavy_modules_after(statement: str) -> list[str]:
    """Which of HEAVY a fresh interpreter holds after one statement."""
    script = f"{statement}\nimport sys\nprint(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("name", sorted(light_modules()))
def test_importing_it_loads_nothing_heavy(name: str) -> None:
    assert heavy_modules_after(f"import {name}") == []


def test_something_heavy_would_be_noticed() -> None:
    assert "torch" in heavy_modules_after("import torch")


def test_the_command_line_loads_no_package() -> None:
    """So that `streamasr doctor` can say which of them is broken."""
    script = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "from streamasr.cli import build_parser\n"
        "build_parser()\n"
        "roots = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(roots - sys.stdlib_module_names - {'streamasr'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
