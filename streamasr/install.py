"""``streamasr install-service``: writes systemd units, enables and starts them; and takes them
away again."""

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from streamasr.config import load_config
from streamasr.errors import ConfigError, ServiceError
from streamasr.service_unit import Unit, recommender_unit, system_unit, user_unit

OURS = "# Installed by 'streamasr install-service'; a change here is lost at the next install.\n"
NAMES = ("streamasr-recommend.service", "streamasr.service")
START_SECONDS = 20
"""A start that takes longer waits for a microphone, perhaps for ever."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Where units go: of the machine or of one ``user``; below ``root``, where one is given,
    as on a disk that is being made: there nothing is started."""

    user: bool = False
    root: Path | None = None

    def install(self, config_file: Path | None, *, recommend: bool, start: bool) -> None:
        """Write, enable and, with ``start``, start.

        Raises ConfigError where the service could not work, and ServiceError where systemd
        refuses; both name the command that mends it.
        """
        self._check_rights()
        config, _ = load_config(None if config_file is None else config_file.absolute())
        make = user_unit if self.user else system_unit
        units = [make(config_file, config)]
        if recommend:
            if self.user:
                raise ConfigError("--recommend is for a service of the machine; leave --user out")
            units.append(recommender_unit())
        for unit in units:
            self._check_ours(unit.name)
        for unit in units:
            self._write(unit)
        names = [unit.name for unit in units]
        self._systemctl("enable", *names)
        if self._is_running:
            self._systemctl("daemon-reload")
        if self.root is not None:
            return
        if start and self._is_running:
            self._start(names)
        else:
            why = "" if self._is_running else "systemd does not run here. "
            print(f"{why}To start it: {self._command('restart', names[0])}")
        if self.user:
            print("From boot on, without a login, it runs after: loginctl enable-linger")

    def uninstall(self) -> None:
        """Stop, disable and remove what ``install`` wrote. Raises ConfigError or ServiceError."""
        self._check_rights()
        names = [name for name in NAMES if (self._folder / name).exists()]
        if not names:
            raise ConfigError(f"nothing is installed in {self._folder}")
        for name in names:
            self._check_ours(name)
        self._systemctl("disable", *(["--now"] if self._is_running else []), *names)
        for name in names:
            try:
                (self._folder / name).unlink()
            except OSError as error:
                raise ConfigError(
                    f"cannot remove {self._folder / name}: {error.strerror}"
                ) from None
            print(f"removed {self._folder / name}")
        if self._is_running:
            self._systemctl("daemon-reload")

    @property
    def _folder(self) -> Path:
        if self.user:
            base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
            return Path(base) / "systemd" / "user"
        return (self.root or Path("/")) / "etc/systemd/system"

    @property
    def _is_running(self) -> bool:
        """Whether there is a systemd to talk to: sd_booted(3), and systemctl's own switch."""
        is_offline = os.environ.get("SYSTEMD_OFFLINE") == "1" or self.root is not None
        return not is_offline and Path("/run/systemd/system").exists()

    def _check_rights(self) -> None:
        if shutil.which("systemctl") is None:
            raise ConfigError(
                "this machine has no systemd (no systemctl); have 'streamasr serve --wait' started "
                "by what starts other programs here"
            )
        if self.user and self.root is not None:
            raise ConfigError("a service of one user goes into his own folder; leave --root out")
        if self.user or self.root is not None or os.geteuid() == 0:
            return
        again = shlex.join([sys.executable, "-m", "streamasr", *sys.argv[1:]])
        raise ConfigError(
            f"a service of the machine needs root: sudo {again}   (or add --user for a service of "
            "your own)"
        )

    def _check_ours(self, name: str) -> None:
        path = self._folder / name
        try:
            is_ours = not path.exists() or path.read_bytes().startswith(OURS.encode())
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from None
        if not is_ours:
            raise ConfigError(
                f"{path} was not written by 'streamasr install-service'; move it away first: "
                + shlex.join(["mv", str(path), f"{path}.old"])
            )

    def _write(self, unit: Unit) -> None:
        path = self._folder / unit.name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(OURS + unit.text)
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}") from None
        print(f"wrote {path}")

    def _start(self, names: list[str]) -> None:
        """Start anew, so that what was installed now counts."""
        try:
            self._systemctl("restart", *names, timeout_seconds=START_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"It is starting. What it waits for: {self._command('status', names[0])}")
        else:
            print(f"It runs. How it is: {self._command('status', names[0])}")

    def _command(self, *arguments: str) -> str:
        return shlex.join(["systemctl", *self._scope, *arguments])

    @property
    def _scope(self) -> list[str]:
        scope = ["--user"] if self.user else []
        return scope if self.root is None else [f"--root={self.root}", *scope]

    def _systemctl(self, *arguments: str, timeout_seconds: float | None = None) -> None:
        command = self._command(*arguments)
        done = subprocess.run(
            ["systemctl", *self._scope, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
        if done.returncode != 0:
            said = " ".join(done.stderr.split())
            mend = f"see: journalctl {'--user ' if self.user else ''}-eu streamasr"
            if self.user and "connect to bus" in said:
                mend = "log in as this user, not by su or sudo, and type it again"
            raise ServiceError(f"'{command}' failed: {said}; {mend}")
