"""All checks one after the other, and how their findings are printed."""

import io
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TextIO

from streamasr.config import Config, load_config
from streamasr.doctor.finding import UNEXPECTED, Finding, ok, problem, warning
from streamasr.doctor.installation import check_packages, check_python
from streamasr.doctor.machine import check_history, check_machine
from streamasr.doctor.models import check_models
from streamasr.doctor.network import check_access, check_ports
from streamasr.doctor.service import check_service
from streamasr.doctor.sound import check_sound
from streamasr.errors import ConfigError

CHECKS: tuple[tuple[str, Callable[[Config], Iterator[Finding]]], ...] = (
    ("python", check_python),
    ("packages", check_packages),
    ("machine", check_machine),
    ("recognition", check_models),
    ("sound", check_sound),
    ("ports", check_ports),
    ("access", check_access),
    ("history", check_history),
    ("service", check_service),
)
COLOURS = {"ok": "32", "warning": "33", "problem": "31"}


def run(
    path: Path | None, flags: Mapping[str, tuple[str, object]], *, as_json: bool = False
) -> int:
    """Check everything and print it as it is found. Returns 0 where nothing keeps the daemon from
    working, else the exit code of the first problem's kind."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may lack the arrow
    findings: list[Finding] = []
    for finding in examine(path, flags):
        findings.append(finding)
        if not as_json:
            show(finding, sys.stdout)
    if as_json:
        print(json.dumps([_described(finding) for finding in findings], indent=2))
    return next((each.exit_code for each in findings if each.state == "problem"), 0)


def examine(path: Path | None, flags: Mapping[str, tuple[str, object]]) -> Iterator[Finding]:
    """Every finding. Where the settings are wrong, what else is wrong is found with the usual."""
    try:
        config, _ = load_config(path, flags)
        yield ok("settings", "the defaults" if path is None else str(path))
    except ConfigError as error:
        config = _of_flags_alone(flags)
        yield problem("settings", str(error), _mend_settings(path), error.exit_code)
    for check, find in CHECKS:
        try:
            yield from find(config)
        except ImportError as error:  # check_packages tells which package is broken
            yield warning(check, f"cannot be looked at: {error}")
        except Exception as error:
            text = f"the check itself failed: {type(error).__name__}: {error}"
            yield problem(check, text, None, UNEXPECTED)


def _of_flags_alone(flags: Mapping[str, tuple[str, object]]) -> Config:
    """What is left where the file is wrong; the defaults where the flags are."""
    try:
        return load_config(None, flags)[0]
    except ConfigError:
        return Config()


def _mend_settings(path: Path | None) -> str:
    """A file that nobody can read is not mended by an example."""
    explain = "streamasr config --example"
    if path is None:
        return explain
    quoted = shlex.quote(str(path))
    try:
        path.open("rb").close()
    except FileNotFoundError:
        return f"{explain} > {quoted}"
    except OSError:
        return f"ls -ld {quoted}, and let this user read it: sudo chmod o+r {quoted}"
    return explain


def show(finding: Finding, output: TextIO) -> None:
    """A line, and what to do on an indented next one."""
    state = f"{finding.state:<8}"
    if output.isatty():
        state = f"\x1b[{COLOURS[finding.state]}m{state}\x1b[0m"
    output.write(f"{state} {finding.check}: {finding.text}\n")
    if finding.mend is not None:
        output.write(f"{'':9}→ {finding.mend}\n")
    output.flush()


def _described(finding: Finding) -> dict[str, object]:
    return {
        "check": finding.check,
        "state": finding.state,
        "text": finding.text,
        "mend": finding.mend,
    }
