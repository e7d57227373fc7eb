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
from typing import TYPE_CHECKING

import streamasr
from streamasr.config import Config
from streamasr.doctor.finding import Finding, ok, problem
from streamasr.errors import ConfigError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

BROKEN = ConfigError.exit_code
IMPORT_SECONDS = 120
ANEW = ("--force-reinstall", "--no-deps")
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
    from packaging.specifiers import SpecifierSet

    version, wanted = ".".join(map(str, sys.version_info[:3])), project()[0]
    if SpecifierSet(wanted).contains(version):
        yield ok("python", f"{version} ({sys.executable})")
    else:
        mend = "sudo apt-get install python3.11 python3.11-venv, and install streamasr with it"
        yield problem("python", f"{version} is not {wanted}", mend, BROKEN)


def check_packages(_: Config) -> Iterator[Finding]:
    """Whether each can be imported and has a version that was tried."""
    try:
        from packaging.requirements import Requirement
    except ImportError as error:  # without it nobody reads what else is needed
        mend = shlex.join([sys.executable, "-m", "pip", "install", *ANEW, "packaging"])
        yield problem("packages", f"packaging: {type(error).__name__}: {error}", mend, BROKEN)
        return
    needed = list(map(Requirement, project()[1]))
    failures = import_failures([IMPORT_NAMES.get(each.name, each.name) for each in needed])
    good: list[str] = []
    for requirement in needed:
        name = requirement.name
        failure = failures[IMPORT_NAMES.get(name, name)]
        version = _installed(name)
        if failure is not None:
            yield failed_import(requirement, failure)
        elif version is not None and not _fits(version, requirement):
            text = f"{name} {version} is not {requirement.specifier}"
            yield problem("packages", text, pip_install(requirement), BROKEN)
        else:
            good.append(name)
    if good:
        yield ok("packages", f"{len(good)} of {len(needed)} can be imported: {', '.join(good)}")


def _installed(name: str) -> str | None:
    """The version of a package; None where it was not installed as one."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _fits(version: str, requirement: "Requirement") -> bool:
    return requirement.specifier.contains(version, prereleases=True)


def failed_import(requirement: "Requirement", failure: str) -> Finding:
    """A package that cannot be imported, or a library that it cannot load."""
    name = requirement.name
    library = re.search(r"(lib[\w+-]+?)[\d.-]*\.so[\d.]*", failure)
    if library is None:
        return problem("packages", f"{name}: {failure}", pip_install(requirement), BROKEN)
    package = DEBIAN_PACKAGES.get(library[1])
    if package is not None:
        mend = f"sudo apt-get install {package}"
    elif _comes_with(name, library[0]):
        mend = pip_install(requirement)
    else:
        mend = f"apt-file search {library[0]}, and install the package"
    return problem("libraries", f"{name}: {failure}", mend, BROKEN)


def pip_install(requirement: "Requirement") -> str:
    """The command that installs a package in this environment; anew where it is there and
    broken, which pip would leave as it is."""
    version = _installed(requirement.name)
    options = ANEW if version is not None and _fits(version, requirement) else ()
    install = shlex.join([sys.executable, "-m", "pip", "install", *options, str(requirement)])
    needed = COMPILED.get(requirement.name)
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
