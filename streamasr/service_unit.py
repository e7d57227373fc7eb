"""The text of systemd units: the shipped ones with the paths of this machine.

The system unit runs as a user of its own that sees no home directory. Where the program or its
files lie in one, the unit binds just those into the service's view, read-only.
"""

import functools
import grp
import shlex
import site
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

import streamasr
from streamasr.config import NO_FILES, Config, ModelConfig, shipped
from streamasr.errors import ConfigError
from streamasr.history import check_history_file
from streamasr.serve.access import Access, allowed_networks, is_loopback, tls_context

HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))
"""What ProtectHome= and PrivateTmp= take from a service's view."""
FOLDERS_OF_HOMES = (Path("/home"), Path("/run/user"))
STATE = Path("/var/lib/streamasr")
SETTINGS = Path("/etc/streamasr")
WRITTEN = ("serve.token_file", "history.file")
"""Settings that name a file which the daemon itself makes."""
SECRET = "serve.tls_key"
OWN_ENVIRONMENT = (
    "add --user, or install it in a virtual environment of its own (python3 -m venv /opt/streamasr)"
)
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
    """The daemon as a service of one user, who can read what he can read. Raises
    StreamasrError where it could not start."""
    _check_settings(config)
    exec_start = _exec_start(*_serve(config_file, config))
    return _unit("streamasr-user.service", "streamasr.service", exec_start, _python_path())


def system_unit(config_file: Path | None, config: Config) -> Unit:
    """The daemon as a service of the machine. Raises ConfigError where the service could not
    read or write a file that ``config`` names, StreamasrError where it could not start."""
    seen = [*_program_paths(), *_config_folders(config)]
    if config_file is not None:
        seen += _folders_of("--config", config_file.absolute())
    _check_settings(config)
    _check_packages()
    extra = [*_python_path(), *_bound(seen)]
    name = "streamasr.service"
    unit = _unit(name, name, _exec_start(*_serve(config_file, config)), extra)
    if is_loopback(config.serve.host) and is_loopback(config.serve.wyoming_host):
        return unit
    kept = [line for line in unit.text.splitlines() if not line.startswith("IPAddress")]
    return Unit(unit.name, "\n".join(kept) + "\n")


def _check_settings(config: Config) -> None:
    """All that the daemon would refuse at its start, but for devices and ports. Raises
    StreamasrError."""
    from streamasr.capture.wavfile import AudioFile
    from streamasr.recognizer import Recognizer

    serve, capture = config.serve, config.capture
    with suppress(OSError):  # it belongs to the service alone
        if serve.token_file is None or serve.token_file.exists():  # else it would be made
            Access.of(serve)
    allowed_networks(serve)
    tls_context(serve)
    if capture.input == "-":
        raise ConfigError(
            "a service has no standard input to hear; set capture.input to mic, none or a file"
        )
    if config.history.file is not None:
        with suppress(OSError):  # it is made, or belongs to the service alone
            check_history_file(config.history.file)
    for sound in (capture.input, capture.fallback):
        if sound is not None and sound not in NO_FILES:
            AudioFile(Path(sound))
    if config.model != ModelConfig():  # what is shipped can be loaded
        Recognizer.load(config.model, config.decoder, config.endpoint)


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
        yield from ("--config", str(config_file.absolute()))


def _exec_start(*arguments: str) -> str:
    words = (sys.executable, "-P", "-m", "streamasr", *arguments)
    return "ExecStart=" + " ".join(_quoted(word).replace("$", "$$") for word in words)


def _python_path() -> Iterator[str]:
    """Where Python finds this streamasr only because it was told so: tell the service, too."""
    found = _run("-P", "-c", "import streamasr; print(streamasr.__file__)").stdout.strip()
    if found != streamasr.__file__:
        yield f"Environment={_quoted(f'PYTHONPATH={_package().parent}')}"


@functools.cache
def _check_packages() -> None:
    """Whether the service's user, who has no folder of packages of his own, finds all that the
    daemon imports. Raises ConfigError."""
    tried = _run("-s", "-P", "-c", "import streamasr.daemon", PYTHONPATH=str(_package().parent))
    if tried.returncode != 0:
        why = (tried.stderr.strip().splitlines() or ["Python crashes"])[-1]
        raise ConfigError(
            f"a service of the machine cannot import what it needs ({why}); {OWN_ENVIRONMENT}"
        )


def _run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Python as a service would start it: nobody's folder and no other ``environment``."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
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
            f"look; {OWN_ENVIRONMENT}"
        )
    needed = [Path(sys.prefix), Path(sys.base_prefix), _package()]
    needed += [path for folder in ("checkpoints", "lm") if (path := shipped(folder)).exists()]
    for path in map(Path.resolve, needed):
        mend = shlex.join(["sudo", "chmod", "-R", "o+rX", str(path)])
        _check_readable(path, f"type: {mend}")
        closed = [] if is_hidden(path) else _closed(path.parents)
        if closed:
            mend = shlex.join(["sudo", "chmod", "o+x", *map(str, closed)])
            raise ConfigError(f"the service's user cannot reach {path}; type: {mend}")
    yield from needed


def _config_folders(config: Config) -> Iterator[Path]:
    """Where the files lie that ``config`` names and the daemon reads."""
    for name, path in _named_paths(config):
        if path.is_relative_to(STATE):
            continue
        if name in WRITTEN:
            raise ConfigError(
                f"{name} is {path}, where the service may not write; set it to {STATE / path.name}"
            )
        yield from _folders_of(name, path)


def _named_paths(config: Config) -> Iterator[tuple[str, Path]]:
    for section in fields(config):
        settings = getattr(config, section.name)
        for setting in fields(settings):
            value = getattr(settings, setting.name)
            if isinstance(value, Path):
                yield f"{section.name}.{setting.name}", value.absolute()
    if config.capture.input not in NO_FILES:
        yield "capture.input", Path(config.capture.input).absolute()


def _folders_of(name: str, path: Path) -> Iterator[Path]:
    """The folders of a file that the setting or option ``name`` names, and of what it is a link to.

    The folder is bound and not the file: who edits or renews it puts a new file in its place, and
    what is bound would stay the old one. A whole home is not bound.
    Raises ConfigError where the service could not read the file.
    """
    install = ["-g", "audio", "-m", "640"] if name == SECRET else ["-m", "644"]
    there = SETTINGS / path.name
    command = shlex.join(["sudo", "install", "-D", *install, str(path), str(there)])
    then = f'set {name} = "{there}"'
    if name == "--config":
        then = f"say --config {shlex.quote(str(there))}"
    mend = f"type: {command} and {then}"
    _check_readable(path, mend, group=_audio_group() if name == SECRET else None)
    for folder in (path.parent, path.resolve().parent):
        if folder in HIDDEN or folder.parent in FOLDERS_OF_HOMES:
            raise ConfigError(f"{path} lies in {folder}, which the service does not see; {mend}")
        passed = [folder] if is_hidden(folder) else [folder, *folder.parents]
        if closed := _closed(passed):
            raise ConfigError(f"the service's user cannot enter {closed[0]}; {mend}")
        yield folder


def _check_readable(path: Path, mend: str, *, group: int | None = None) -> None:
    """Whether the service's user, who is in ``group``, may read what is there, could he reach it.
    Raises ConfigError with the ``mend``."""
    try:
        status = path.stat()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    wanted = 0o005 if path.is_dir() else 0o004
    is_of_group = status.st_gid == group and status.st_mode & 0o040
    if status.st_mode & wanted != wanted and not is_of_group:
        raise ConfigError(f"the service's user cannot read {path}; {mend}")


def _closed(folders: Iterable[Path]) -> list[Path]:
    """Those that the service's user may not pass, the outermost first."""
    return sorted(folder for folder in folders if not folder.stat().st_mode & 0o001)


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
