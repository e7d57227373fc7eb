"""The systemd unit, where systemd runs the machine."""

import getpass
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from streamasr.config import Config
from streamasr.doctor.finding import Finding, ok, problem, warning
from streamasr.errors import ConfigError

RUNNING = Path("/run/systemd/system")
UNIT = "streamasr.service"
ANSWER_SECONDS = 10
CODES = (2, 3, 4, 5)


def check_service(_: Config) -> Iterator[Finding]:
    """The unit of the system and that of the user."""
    if not RUNNING.exists() or shutil.which("systemctl") is None:
        return
    found = False
    for scope, flags in (("system", ()), ("user", ("--user",))):
        unit = _show(flags)
        if unit.get("LoadState") == "loaded":
            found = True
            yield _check_unit(scope, flags, unit)
            if scope == "user":
                yield from _check_linger()
    if not found:
        yield ok("service", f"{UNIT} is not installed; streamasr install-service does it")


def _check_unit(scope: str, flags: tuple[str, ...], unit: dict[str, str]) -> Finding:
    check = f"{scope} service"
    command = " ".join((*(("sudo",) if scope == "system" else ()), "systemctl", *flags))
    active, enabled = unit.get("ActiveState", ""), unit.get("UnitFileState", "")
    is_crashing = unit.get("SubState") == "auto-restart"
    if active == "failed" or is_crashing:
        code = unit.get("ExecMainStatus", "")
        did = "fails again and again" if is_crashing else "failed"
        text = f"{UNIT} {did} ({unit.get('Result', '?')}, exit code {code})"
        kind = int(code) if code.isdigit() and int(code) in CODES else ConfigError.exit_code
        return problem(check, text, f"journalctl {' '.join((*flags, '-u'))} {UNIT} -n 30", kind)
    if active == "activating":
        text = f"{UNIT} is starting; without a microphone it waits for one"
        return warning(check, text, f"systemctl {' '.join((*flags, 'status'))} {UNIT}")
    if enabled not in ("enabled", "enabled-runtime"):
        text = f"{UNIT} is {active}, but not started with the machine ({enabled})"
        return warning(check, text, f"{command} enable --now {UNIT}")
    if active != "active":
        return warning(check, f"{UNIT} is {active}", f"{command} start {UNIT}")
    return ok(check, f"{UNIT} is active and enabled")


def _check_linger() -> Iterator[Finding]:
    user = getpass.getuser()
    asked = _run("loginctl", "show-user", user, "-p", "Linger")
    if asked.strip() == "Linger=no":
        text = "the user's services end when he logs out"
        yield warning("linger", text, f"sudo loginctl enable-linger {user}")


def _show(flags: tuple[str, ...]) -> dict[str, str]:
    properties = "LoadState,ActiveState,SubState,UnitFileState,Result,ExecMainStatus"
    printed = _run("systemctl", *flags, "show", UNIT, "-p", properties)
    return {key: value for key, _, value in (line.partition("=") for line in printed.splitlines())}


def _run(*command: str) -> str:
    """What a program prints; nothing where it fails, as where there is no session bus."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
