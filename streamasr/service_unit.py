"""The text of systemd units: the shipped ones with the paths of this machine.

The system unit runs as a user of its own that sees no home directory. Where the program or its
files lie in one, the unit binds just those into the service's view, read-only.
"""

import grp
import site
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import streamasr
from streamasr.config import Config, shipped
from streamasr.errors import ConfigError
from streamasr.serve.access import is_loopback

HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))
"""What ProtectHome= and PrivateTmp= take from a service's view."""
STATE = Path("/var/lib/streamasr")
WRITTEN = ("serve.token_file", "history.file")
"""Settings that name a file which the daemon itself makes."""
SECRET = "serve.tls_key"
CHECK_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Unit:
    """``text`` is what the file ``name`` of a unit folder should hold."""

    name: str
    text: str


def recommender_unit() -> Unit:
    """Raises ConfigError where this version has no recommender."""
    if _run("-P", "-m", "streamasr", "recommend", "--help").returncode != 0:
        raise ConfigError(
            "this version has no 'streamasr recommend' that a service could run; leave "
            "--recommend out"
        )
    name = "streamasr-recommend.service"
    extra = [*_python_path(), *_bound(_program_paths())]
    return _unit(name, name, _exec_start("recommend", "--json"), extra)


def user_unit(config_file: Path | None, config: Config) -> Unit:
    """The daemon as a service of one user, who can read what he can read."""
    exec_start = _exec_start(*_serve(config_file, config))
    return _unit("streamasr-user.service", "streamasr.service", exec_start, _python_path())


def system_unit(config_file: Path | None, config: Config) -> Unit:
    """The daemon as a service of the machine. Raises ConfigError where the service could not
    read or write a file that ``config`` names."""
    paths = [*_program_paths(), *_config_paths(config)]
    if config_file is not None:
        paths.append(config_file.resolve())
        _check_readable(config_file.resolve())
    extra = [*_python_path(), *_bound(paths)]
    name = "streamasr.service"
    unit = _unit(name, name, _exec_start(*_serve(config_file, config)), extra)
    if is_loopback(config.serve.host) and is_loopback(config.serve.wyoming_host):
        return unit
    kept = [line for line in unit.text.splitlines() if not line.startswith("IPAddress")]
    return Unit(unit.name, "\n".join(kept) + "\n")


def _unit(template: str, name: str, exec_start: str, extra: Iterable[str]) -> Unit:
    """The shipped ``template`` with another ExecStart, and ``extra`` lines for the service."""
    lines = []
    for line in shipped("systemd", template).read_text().splitlines():
        if line == "[Install]":
            lines += [*extra, ""]
        lines.append(exec_start if line.startswith("ExecStart=") else line)
    return Unit(name, "\n".join(lines) + "\n")


def _serve(config_file: Path | None, config: Config) -> Iterator[str]:
    yield "serve"
    if config.capture.fallback is None:
        yield "--wait"
    if config_file is not None:
        yield from ("--config", str(config_file.resolve()))


def _exec_start(*arguments: str) -> str:
    words = (sys.executable, "-P", "-m", "streamasr", *arguments)
    return "ExecStart=" + " ".join(_quoted(word).replace("$", "$$") for word in words)


def _python_path() -> Iterator[str]:
    """Where Python finds this streamasr only because it was told so: tell the service, too."""
    found = _run("-P", "-c", "import streamasr; print(streamasr.__file__)").stdout.strip()
    if found != streamasr.__file__:
        yield f"Environment={_quoted(f'PYTHONPATH={_package().parent}')}"


def _run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Python as a service would start it: no environment, nobody's folder."""
    return subprocess.run(
        [sys.executable, *arguments],
        env={},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=CHECK_SECONDS,
        check=False,
    )


def _package() -> Path:
    return Path(streamasr.__file__).parent


def _program_paths() -> Iterator[Path]:
    """Python, its packages, and what is shipped."""
    if site.ENABLE_USER_SITE and _package().is_relative_to(site.getusersitepackages()):
        raise ConfigError(
            "streamasr is installed for one user only, where a service of the machine does not "
            "look: add --user, or install it in a virtual environment of its own (python3 -m venv "
            "/opt/streamasr)"
        )
    needed = [Path(sys.prefix), Path(sys.base_prefix), _package()]
    needed += [path for folder in ("checkpoints", "lm") if (path := shipped(folder)).exists()]
    for path in needed:
        _check_readable(path)
        yield path


def _config_paths(config: Config) -> Iterator[Path]:
    """The files that ``config`` names and the daemon reads."""
    for section in fields(config):
        settings = getattr(config, section.name)
        for setting in fields(settings):
            path = getattr(settings, setting.name)
            if not isinstance(path, Path):
                continue
            name = f"{section.name}.{setting.name}"
            path = path.absolute()
            if path.is_relative_to(STATE):
                continue
            if name in WRITTEN:
                raise ConfigError(
                    f"{name} is {path}, where the service may not write; set it to "
                    f"{STATE / path.name}"
                )
            _check_readable(path, secret=name == SECRET)
            yield path


def _check_readable(path: Path, *, secret: bool = False) -> None:
    """Whether the service's user can read ``path``, once it is bound where that is needed.

    A secret may be kept to the group audio, of which the service is. Raises ConfigError.
    """
    path = path.resolve()
    try:
        status = path.stat()
        folders = () if is_hidden(path) else path.parents
        passable = all(folder.stat().st_mode & 0o001 for folder in folders)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    wanted = 0o005 if path.is_dir() else 0o004
    readable = status.st_mode & wanted == wanted
    if secret and status.st_mode & 0o040 and status.st_gid == _audio_group():
        readable = True
    if not readable or not passable:
        how = "-g audio -m 640" if secret else "-m 644"
        mend = f"sudo install -D {how} {path} /etc/streamasr/{path.name}"
        if path.is_dir():
            mend = f"sudo chmod -R o+rX {path}"
        raise ConfigError(f"the service's user cannot read {path}; type: {mend}")


def _audio_group() -> int | None:
    try:
        return grp.getgrnam("audio").gr_gid
    except KeyError:
        return None


def is_hidden(path: Path) -> bool:
    """Whether the service would see ``path`` only if it were bound into its view."""
    return any(path.is_relative_to(folder) for folder in HIDDEN)


def _bound(paths: Iterable[Path]) -> Iterator[str]:
    """What must be bound into the service's view so that it sees ``paths``."""
    wanted = {each for path in paths for each in (path, path.resolve()) if is_hidden(each)}
    outermost = [path for path in sorted(wanted) if not wanted & set(path.parents)]
    if any(path.is_relative_to(folder) for path in outermost for folder in HIDDEN[:3]):
        yield "# The program or its files lie in a home directory: those are seen, nothing else."
        yield "ProtectHome=tmpfs"
    for path in outermost:
        escaped = str(path).replace("\\", "\\\\").replace(":", "\\:")
        yield f"BindReadOnlyPaths={_quoted(escaped)}"


def _quoted(word: str) -> str:
    """One word of a unit file's line."""
    word = word.replace("%", "%%")
    if not set(word) & set(" \t\"'\\;"):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
