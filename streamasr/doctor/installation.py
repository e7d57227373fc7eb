"""Python, the packages and the shared libraries that they load."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import streamasr
from streamasr.config import Config
from streamasr.doctor.finding import Finding, ok, problem
from streamasr.errors import ConfigError

BROKEN = ConfigError.exit_code
IMPORT_SECONDS = 120
# Packages whose name in Python is another.
IMPORT_NAMES = {"prometheus-client": "prometheus_client", "import-linter": "importlinter"}
# What must be there before pip can compile them.
COMPILED = {
    "pyaudio": "build-essential portaudio19-dev python3-dev",
    "kenlm": "build-essential python3-dev",
}
DEBIAN_PACKAGES = {
    "libportaudio": "libportaudio2",
    "libsndfile": "libsndfile1",
    "libasound": "libasound2",
    "libgomp": "libgomp1",
    "libstdc++": "libstdc++6",
}
# Says what it is about to import, so that who reads knows it where it crashes.
_IMPORT_EACH = """
import importlib, json, sys
for name in sys.argv[1:]:
    print(name, flush=True)
    try:
        importlib.import_module(name)
        failure = None
    except BaseException as error:
        failure = f"{type(error).__name__}: {error}"
    print(json.dumps(failure), flush=True)
"""


def check_python(_: Config) -> Iterator[Finding]:
    """Its version."""
    version, wanted = sys.version.split()[0], project()[0]
    if is_within(version, wanted):
        yield ok("python", f"{version} ({sys.executable})")
    else:
        mend = "sudo apt-get install python3.11 python3.11-venv, and install streamasr with it"
        yield problem("python", f"{version} is not {wanted}", mend, BROKEN)


def check_packages(_: Config) -> Iterator[Finding]:
    """Whether each can be imported and has a version that was tried."""
    requirements = dict(map(read_requirement, project()[1]))
    names = {IMPORT_NAMES.get(name, name): name for name in requirements}
    failures = import_failures(list(names))
    good: list[str] = []
    for import_name, failure in failures.items():
        name = names[import_name]
        wanted = requirements[name]
        if failure is not None:
            yield failed_import(name, wanted, failure)
            continue
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = ""
        if version and not is_within(version, wanted):
            text = f"{name} {version} is not {wanted}"
            yield problem("packages", text, pip_install(name, wanted), BROKEN)
        else:
            good.append(name)
    if good:
        yield ok("packages", f"{len(good)} of {len(names)} can be imported: {', '.join(good)}")


def failed_import(name: str, wanted: str, failure: str) -> Finding:
    """A package that cannot be imported, or a library that it cannot load."""
    library = re.search(r"(lib[\w+-]+?)[\d.-]*\.so[\d.]*", failure)
    if library is None:
        return problem("packages", f"{name}: {failure}", pip_install(name, wanted), BROKEN)
    package = DEBIAN_PACKAGES.get(library[1])
    if package is not None:
        mend = f"sudo apt-get install {package}"
    elif _comes_with(name, library[0]):
        mend = pip_install(name, wanted)
    else:
        mend = f"apt-file search {library[0]}, and install the package"
    return problem("libraries", f"{name}: {failure}", mend, BROKEN)


def pip_install(name: str, wanted: str) -> str:
    """The command that installs a package in this environment; anew where it is there and
    broken, which pip would leave as it is."""
    try:
        is_there = is_within(metadata.version(name), wanted)
    except metadata.PackageNotFoundError:
        is_there = False
    options = ["--force-reinstall", "--no-deps"] if is_there else []
    install = shlex.join([sys.executable, "-m", "pip", "install", *options, name + wanted])
    needed = COMPILED.get(name)
    return install if needed is None else f"sudo apt-get install {needed} && {install}"


def _comes_with(name: str, library: str) -> bool:
    """Whether the installed package ``name`` brings the file ``library`` itself."""
    try:
        files = metadata.files(name) or ()
    except metadata.PackageNotFoundError:
        return False
    return any(file.name == library for file in files)


def import_failures(names: list[str]) -> dict[str, str | None]:
    """Import each in another process, where it may crash; why it cannot be, or None."""
    failures: dict[str, str | None] = {}
    while len(failures) < len(names):
        rest = [name for name in names if name not in failures]
        command = [sys.executable, "-P", "-c", _IMPORT_EACH, *rest]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        try:
            run = subprocess.run(
                command,
                env=environment,
                capture_output=True,
                timeout=IMPORT_SECONDS,
                check=False,
            )
            printed, end = run.stdout, f"it crashes Python ({ending(run.returncode)})"
        except subprocess.TimeoutExpired as late:
            printed, end = late.stdout or b"", f"it takes more than {IMPORT_SECONDS} s"
        # What the packages themselves print stands on other lines.
        current = rest[0]
        for line in printed.decode(errors="replace").splitlines():
            if line in rest:
                current = line
            elif line == "null" or line.startswith('"'):
                failures[current] = json.loads(line)
        if len(failures) < len(names):
            failures.setdefault(current, end)
    return failures


def ending(returncode: int) -> str:
    """What ended a process."""
    return signal.Signals(-returncode).name if returncode < 0 else f"exit code {returncode}"


def project() -> tuple[str, list[str]]:
    """The versions of Python and the packages that are needed: of pyproject.toml in a checkout,
    else of the installed package."""
    path = Path(streamasr.__file__).parents[1] / "pyproject.toml"
    if path.exists():
        described = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        return described["requires-python"], described["dependencies"]
    requirements = metadata.requires("streamasr") or []
    own = [each for each in requirements if "extra ==" not in each]
    return metadata.metadata("streamasr")["Requires-Python"], own


def read_requirement(requirement: str) -> tuple[str, str]:
    """``kenlm>=0.3.0`` as name and range."""
    match = re.match(r"([\w.-]+)\s*(?:\[.*?\])?\s*([^;]*)", requirement)
    assert match is not None
    return match[1].lower(), match[2].strip()


def is_within(version: str, wanted: str) -> bool:
    """Whether ``version`` is in a range such as ``>=1.26,<2``."""
    return all(_holds(version, each.strip()) for each in wanted.split(",") if each.strip())


def _holds(version: str, condition: str) -> bool:
    match = re.match(r"(>=|<=|==|!=|>|<)\s*([\d.]+)", condition)
    if match is None:
        return True  # of a kind that we do not use
    parts = [
        [int(n) for n in re.findall(r"\d+", each.partition("+")[0])] for each in (version, match[2])
    ]
    longest = max(map(len, parts))
    found, limit = (part + [0] * (longest - len(part)) for part in parts)
    return {
        ">=": found >= limit,
        "<=": found <= limit,
        "==": found == limit,
        "!=": found != limit,
        ">": found > limit,
        "<": found < limit,
    }[match[1]]
