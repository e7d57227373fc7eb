"""What only speaks the wire stays light, and so does what looks for broken packages: importing it
loads no torch and no recognizer."""

import importlib.util
import pkgutil
import subprocess
import sys
from collections.abc import Iterable, Iterator

import streamasr

LIMIT_SECONDS = 60
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


def fresh(script: str) -> list[str]:
    """The words that a script prints in an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def first_heavy(names: Iterable[str]) -> list[str]:
    """The first of the modules, imported one by one, that makes any of HEAVY appear, and these."""
    return fresh(
        "import importlib, sys\n"
        f"for name in {list(names)}:\n"
        "    importlib.import_module(name)\n"
        f"    if heavy := [each for each in {HEAVY} if each in sys.modules]:\n"
        "        print(name, *heavy)\n"
        "        break\n"
    )


def test_importing_them_loads_nothing_heavy() -> None:
    assert first_heavy(sorted(light_modules())) == []


def test_something_heavy_would_be_noticed() -> None:
    heavy = first_heavy(["streamasr.events", "torch", "streamasr.errors"])
    assert heavy[:2] == ["torch", "torch"]


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
    assert fresh(script) == []
