"""``streamasr doctor``: what is broken is found and named with its mend, and nothing crashes it."""

import asyncio
import datetime
import json
import os
import pty
import re
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

import pytest
import trustme
from packaging.requirements import Requirement
from websockets.asyncio.client import connect

from streamasr.config import (
    CaptureConfig,
    Config,
    DecoderConfig,
    HistoryConfig,
    ModelConfig,
    ServeConfig,
)
from streamasr.doctor import machine, models, service, sound
from streamasr.doctor.finding import Finding
from streamasr.doctor.installation import (
    IMPORT_NAMES,
    check_packages,
    check_python,
    failed_import,
    import_failures,
    project,
)
from streamasr.doctor.machine import check_history, check_machine
from streamasr.doctor.models import check_models
from streamasr.doctor.network import check_access, check_ports
from streamasr.doctor.report import examine
from streamasr.doctor.running import unmute_command
from streamasr.doctor.service import check_service
from streamasr.doctor.sound import check_sound
from tests.running_daemon import LIMIT_SECONDS, program, receive_until
from tests.virtual_microphone import VirtualMicrophone

NOBODY = CaptureConfig(device="a microphone that nobody has")


def doctor(
    *arguments: str, environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run it to its end."""
    return subprocess.run(
        [sys.executable, "-m", "streamasr", "doctor", *arguments],
        env=os.environ | dict(environment or {}),
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


def by_check(findings: Iterable[Finding]) -> dict[str, Finding]:
    found = {}
    for finding in findings:
        assert finding.state in ("ok", "warning", "problem")
        assert (finding.exit_code != 0) == (finding.state == "problem")
        assert finding.state == "ok" or finding.mend
        found[finding.check] = finding
    return found


# The whole program ----------------------------------------------------------------------------


def test_where_nothing_is_wrong_it_says_so_and_exits_with_0() -> None:
    run = doctor("--input", "none", "--port", "0", "--json")
    assert run.stderr == ""
    findings = {finding["check"]: finding for finding in json.loads(run.stdout)}
    assert run.returncode == 0, run.stdout
    for finding in findings.values():
        assert finding.keys() == {"check", "state", "text", "mend"}
        assert finding["state"] in ("ok", "warning")
    for check in ("settings", "python", "packages", "checkpoint", "language model", "lexicon"):
        assert findings[check]["state"] == "ok"
    for check in ("recognition", "input", "port", "access", "memory", "open files"):
        assert check in findings
    assert "real-time factor 0." in findings["recognition"]["text"]


def test_every_mend_stands_below_its_line_and_the_first_problem_decides(tmp_path: Path) -> None:
    settings = tmp_path / "streamasr.toml"
    settings.write_text('[serve]\nprot = 1\nhost = 3\n[model]\nunits = "letters"\n')
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"nothing of the kind")
    run = doctor("--config", str(settings), "--checkpoint", str(damaged), "--input", "none")
    lines = run.stdout.splitlines()
    assert run.returncode == 2
    assert run.stderr == ""
    assert lines[0].startswith("problem  settings: ")
    for says in ("did you mean port?", "serve.host must be a text", "'phones' or 'characters'"):
        assert says in lines[0]
    assert lines[1] == "         → streamasr config --example"
    for line in lines:
        assert line.startswith(("ok       ", "warning  ", "problem  ", "         → "))
    assert "\x1b" not in run.stdout
    assert any(line.startswith("ok       language model: ") for line in lines)


def test_where_the_file_is_wrong_the_flags_still_count(tmp_path: Path) -> None:
    settings = tmp_path / "no such.toml"
    flags = {"model.checkpoint": ("--checkpoint", Path("/nowhere"))}
    findings = examine(settings, flags)
    wrong = next(findings)
    assert (wrong.state, wrong.mend) == ("problem", f"streamasr config --example > '{settings}'")
    checkpoint = next(each for each in findings if each.check == "checkpoint")
    assert checkpoint.state == "problem"
    settings.mkdir()
    assert str(next(examine(settings, {})).mend).startswith(f"ls -ld '{settings}'")


def test_the_checkpoint_that_is_damaged_is_named(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"nothing of the kind")
    run = doctor("--checkpoint", str(damaged), "--input", "none", "--port", "0")
    assert run.returncode == 4
    assert f"problem  checkpoint: checkpoint {damaged} is damaged" in run.stdout
    assert "recognition" not in run.stdout


def test_without_torch_it_still_says_what_else_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libgomp.so.1: cannot open')")
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    run = doctor("--input", "none", "--port", "0", environment={"PYTHONPATH": path})
    assert run.returncode == 2
    assert run.stderr == ""
    assert "problem  libraries: torch: ImportError: libgomp.so.1" in run.stdout
    assert "→ sudo apt-get install libgomp1" in run.stdout
    assert "warning  recognition: cannot be looked at" in run.stdout
    assert "ok       port: " in run.stdout


def test_without_any_package_each_is_named(tmp_path: Path) -> None:
    """But for the one that reads what is needed."""
    names = {Requirement(each).name for each in project()[1]} - {"packaging"}
    modules = {name: IMPORT_NAMES.get(name, name) for name in names}
    for module in modules.values():
        (tmp_path / f"{module}.py").write_text("raise ImportError('left out')")
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    run = doctor("--port", "0", environment={"PYTHONPATH": path})
    assert (run.returncode, run.stderr) == (2, "")
    for name in modules:
        assert f"problem  packages: {name}: ImportError: left out" in run.stdout
    assert "ok       port: " in run.stdout


def test_only_a_terminal_gets_colours() -> None:
    terminal, ours = pty.openpty()
    command = [sys.executable, "-m", "streamasr", "doctor", "--checkpoint", "/nowhere"]
    with subprocess.Popen([*command, "--input", "none"], stdout=ours) as run:
        os.close(ours)
        printed = b""
        try:
            while part := os.read(terminal, 4096):
                printed += part
        except OSError:  # that is how a terminal ends
            pass
    os.close(terminal)
    assert run.returncode == 4
    assert b"\x1b[32mok      \x1b[0m settings: " in printed
    assert b"\x1b[31mproblem \x1b[0m checkpoint: " in printed


# Installation ---------------------------------------------------------------------------------


def test_this_python_and_its_packages_are_fine() -> None:
    assert by_check(check_python(Config()))["python"].state == "ok"
    packages = by_check(check_packages(Config()))["packages"]
    assert packages.state == "ok"
    assert "torch" in packages.text


def test_without_what_reads_requirements_its_own_mend_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    (finding,) = check_packages(Config())
    assert (finding.state, finding.exit_code) == ("problem", 2)
    assert finding.text.startswith("packaging: ModuleNotFoundError: ")
    assert str(finding.mend).endswith("-m pip install --force-reinstall --no-deps packaging")


def test_a_package_of_the_wrong_version_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "num2words-0.1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: num2words\nVersion: 0.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    findings = [each for each in check_packages(Config()) if each.state == "problem"]
    assert [each.text for each in findings] == ["num2words 0.1 is not >=0.5.14"]
    assert str(findings[0].mend).endswith("-m pip install 'num2words>=0.5.14'")


def test_a_package_that_crashes_python_is_named_and_the_others_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crashing.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)")
    (tmp_path / "talking.py").write_text("print('null and void')")
    monkeypatch.syspath_prepend(tmp_path)
    failures = import_failures(["json", "crashing", "talking", "no_such_package"])
    assert failures == {
        "json": None,
        "crashing": "it crashes Python (SIGILL)",
        "talking": None,
        "no_such_package": "ModuleNotFoundError: No module named 'no_such_package'",
    }


def test_what_pip_has_to_compile_is_told_with_what_it_needs() -> None:
    pyaudio = Requirement("pyaudio>=0.2.14")
    finding = failed_import(pyaudio, "ModuleNotFoundError: No module named 'pyaudio'")
    assert str(finding.mend).startswith("sudo apt-get install build-essential portaudio19-dev")
    library = "ImportError: libportaudio.so.2: cannot open shared object file"
    assert failed_import(pyaudio, library).mend == "sudo apt-get install libportaudio2"


def test_a_package_that_is_there_and_broken_is_installed_anew() -> None:
    torch = Requirement(next(each for each in project()[1] if each.startswith("torch")))
    again = f"-m pip install --force-reinstall --no-deps '{torch}'"
    broken = failed_import(torch, "ImportError: cannot import name 'nn'")
    assert str(broken.mend).endswith(again)
    library = next(
        file.name for file in metadata.files("torch") or () if file.name.startswith("libtorch")
    )
    failure = f"ImportError: {library}: cannot open shared object file"
    assert str(failed_import(torch, failure).mend).endswith(again)


# What recognises ------------------------------------------------------------------------------


def test_each_file_that_recognises_is_named(tmp_path: Path) -> None:
    damaged = tmp_path / "file"
    damaged.write_bytes(b"nothing of the kind")
    for setting, check in (("language_model", "language model"), ("lexicon", "lexicon")):
        findings = by_check(check_models(Config(model=ModelConfig(**{setting: damaged}))))
        assert (findings[check].state, findings[check].exit_code) == ("problem", 4)
        assert str(damaged) in findings[check].text
        assert "recognition" not in findings


def test_a_search_that_is_too_slow_for_live_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MOST_SECONDS", 2.0)
    slow = DecoderConfig(beam_size=10_000, beam_threshold=1_000.0)
    finding = by_check(check_models(Config(decoder=slow)))["recognition"]
    assert (finding.state, finding.exit_code) == ("problem", 1)
    assert "too slow" in finding.text
    assert "--beam-size" in str(finding.mend)


def test_phrases_that_cannot_be_spoken_keep_it_from_working(tmp_path: Path) -> None:
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("здравствуйте\n")
    finding = by_check(check_models(Config(model=ModelConfig(phrases=phrases))))["recognition"]
    assert (finding.state, finding.exit_code) == ("problem", 2)


def espeak_finding(config: Config) -> Finding:
    """Nothing is recognised for it."""
    return next(each for each in check_models(config) if each.check == "espeak-ng")


def test_espeak_is_needed_for_hot_phrases_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert espeak_finding(Config()).state == "warning"
    hot = tmp_path / "hot.txt"
    hot.write_text("tavik morrenta\n")
    finding = espeak_finding(Config(model=ModelConfig(hot_phrases=hot)))
    assert (finding.state, finding.exit_code) == ("problem", 4)
    assert finding.mend == "sudo apt-get install espeak-ng"


# Sound ----------------------------------------------------------------------------------------


def test_digital_silence_may_be_a_muted_microphone(heard: VirtualMicrophone) -> None:
    findings = by_check(check_sound(Config(serve=ServeConfig(port=0))))
    assert findings["sound server"].state == "ok"
    assert findings["microphones"].state == "ok"
    assert findings["microphone"].state == "warning"
    assert "digital silence" in findings["microphone"].text
    assert findings["microphone"].mend == "pactl set-source-mute @DEFAULT_SOURCE@ 0"


def test_a_microphone_that_hears_is_measured(heard: VirtualMicrophone, demo_wav: Path) -> None:
    playing = heard.play(demo_wav)
    finding = by_check(check_sound(Config(serve=ServeConfig(port=0))))["microphone"]
    assert playing.poll() is None, "the recording ended too soon for this machine"
    assert finding.state == "ok"
    assert re.search(r"is open: -\d+ dB peak, -\d+ dB RMS$", finding.text)


def test_a_microphone_that_is_not_there(heard: VirtualMicrophone) -> None:
    finding = by_check(check_sound(Config(capture=NOBODY)))["microphone"]
    assert (finding.state, finding.exit_code) == ("problem", 3)
    assert "a microphone that nobody has" in finding.text
    capture = CaptureConfig(device=NOBODY.device, fallback=Path("demo.flac"))
    findings = by_check(check_sound(Config(capture=capture)))
    assert findings["microphone"].state == "warning"
    assert (findings["fallback"].state, findings["fallback"].exit_code) == ("problem", 3)
    waiting = CaptureConfig(device=NOBODY.device, wait=True)
    finding = by_check(check_sound(Config(capture=waiting)))["microphone"]
    assert finding.state == "warning"
    assert "waited for" in finding.text


def test_a_sound_server_that_is_gone_is_named(heard: VirtualMicrophone) -> None:
    heard.stop()
    findings = by_check(check_sound(Config()))
    assert (findings["sound server"].state, findings["sound server"].exit_code) == ("problem", 3)
    assert "does not answer" in findings["sound server"].text
    assert str(findings["sound server"].mend).startswith("unset PULSE_SERVER")
    assert any(
        finding.state == "problem"
        for check, finding in findings.items()
        if check.startswith("microphone")
    )


def test_a_sound_system_that_hangs_does_not_hang_the_doctor(
    heard: VirtualMicrophone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sound, "MICROPHONE_SECONDS", 2.0)
    with heard.hanging() as server:
        finding = by_check(check_sound(Config()))["microphone"]
        with server.accept()[0] as connection:
            assert peer_pid(connection) != os.getpid()  # who looked for microphones
    assert (finding.state, finding.exit_code) == ("problem", 3)
    assert "does not answer within 2 s" in finding.text


def peer_pid(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[:4], sys.byteorder)


def test_a_file_needs_no_microphone(demo_wav: Path, tmp_path: Path) -> None:
    capture = CaptureConfig(input=str(demo_wav))
    assert by_check(check_sound(Config(capture=capture)))["input"].state == "ok"
    capture = CaptureConfig(input=str(tmp_path / "nowhere.wav"))
    finding = by_check(check_sound(Config(capture=capture)))["input"]
    assert (finding.state, finding.exit_code) == ("problem", 3)


async def test_a_microphone_that_is_muted_is_left_alone(heard: VirtualMicrophone) -> None:
    async with program("--input", "mic") as daemon, connect(daemon.url) as client:
        port = int(daemon.url.rpartition(":")[2].partition("/")[0])
        config = Config(serve=ServeConfig(port=port))
        ports = by_check(await asyncio.to_thread(lambda: [*check_ports(config)]))
        assert ports["port"].state == "ok"
        assert "streamasr runs there already" in ports["port"].text
        assert "microphone ok" in ports["port"].text
        await client.send('{"type": "mute"}')
        await receive_until(client, type="status", microphone="muted")
        finding = by_check(await asyncio.to_thread(lambda: [*check_sound(config)]))["microphone"]
        assert finding.state == "warning"
        assert "muted" in finding.text
        assert finding.mend == f"streamasr unmute {daemon.url}"


def test_who_unmutes_needs_what_the_daemon_wants(tmp_path: Path) -> None:
    token, certificate = tmp_path / "my token", tmp_path / "box.pem"
    serve = ServeConfig("0.0.0.0", 9000, token_file=token, tls_certificate=certificate)
    assert unmute_command(serve) == (
        f"streamasr unmute wss://127.0.0.1:9000/v1 --token-file '{token}' --ca-file {certificate}"
    )


# Addresses, tokens, certificates --------------------------------------------------------------


def test_who_holds_the_port_is_named() -> None:
    holder = (
        "import socket, sys\n"
        "with socket.create_server(('127.0.0.1', 0)) as server:\n"
        "    print(server.getsockname()[1], flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        finding = by_check(check_ports(Config(serve=ServeConfig(port=port))))["port"]
        process.communicate(timeout=LIMIT_SECONDS)
    assert (finding.state, finding.exit_code) == ("problem", 5)
    assert f"(process {process.pid})" in finding.text
    ends = f"kill {process.pid}"
    assert finding.mend == f"choose another port with --port; or end who has it: {ends}"


def test_free_ports_and_addresses_that_are_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    serve = ServeConfig(host="127.0.0.1", port=free, vosk_port=0, wyoming_host="203.0.113.9")
    assert {
        name: each.state for name, each in by_check(check_ports(Config(serve=serve))).items()
    } == {
        "port": "ok",
        "vosk port": "ok",
    }
    serve = ServeConfig(port=0, wyoming_host="203.0.113.9", wyoming_port=10_300)
    finding = by_check(check_ports(Config(serve=serve)))["wyoming port"]
    assert (finding.state, finding.exit_code) == ("problem", 5)
    assert "--wyoming-host" in str(finding.mend)


def test_the_token_is_looked_at_and_not_made(tmp_path: Path) -> None:
    token = tmp_path / "token"
    config = Config(serve=ServeConfig(host="0.0.0.0", token_file=token))
    assert by_check(check_access(config))["access"].state == "ok"
    assert not token.exists()
    token.write_text("a" * 40)
    token.chmod(0o644)
    finding = by_check(check_access(config))["access"]
    assert (finding.state, finding.exit_code) == ("problem", 2)
    assert finding.mend == f"chmod 600 {token}"
    token.chmod(0o600)
    assert by_check(check_access(config))["access"].state == "ok"
    beyond = Config(serve=ServeConfig(host="0.0.0.0"))
    assert "--token-file" in str(by_check(check_access(beyond))["access"].mend)


def test_what_cannot_even_be_looked_for_is_a_problem_of_the_settings(tmp_path: Path) -> None:
    """A closed folder does the same; root enters each."""
    path = tmp_path / ("x" * 300) / "file"
    findings = [
        *check_access(Config(serve=ServeConfig(token_file=path))),
        *check_history(Config(history=HistoryConfig(file=path))),
    ]
    assert [(each.state, each.exit_code) for each in findings] == [("problem", 2)] * 2
    for finding in findings:
        assert "File name too long" in finding.text


def test_a_history_is_not_kept_in_what_is_none(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("buy milk\n")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, says in ((notes, "is no history"), (tmp_path, "is no regular file"), (pipe, "is no")):
        finding = by_check(check_history(Config(history=HistoryConfig(file=path))))["history"]
        assert (finding.state, finding.exit_code) == ("problem", 2)
        assert says in finding.text
    assert notes.read_text() == "buy milk\n"
    new = Config(history=HistoryConfig(file=tmp_path / "new.jsonl"))
    assert by_check(check_history(new))["history"].state == "ok"
    assert not (tmp_path / "new.jsonl").exists()


def test_half_a_certificate_names_the_other_half(tmp_path: Path) -> None:
    serve = ServeConfig(tls_certificate=tmp_path / "box.pem")
    finding = by_check(check_access(Config(serve=serve)))["certificate"]
    assert (finding.state, finding.exit_code) == ("problem", 2)
    assert finding.text.startswith("serve.tls_key (--tls-key) is missing")


@pytest.mark.parametrize(
    ("days", "state", "says"),
    [
        (100, "ok", "valid for 99 days"),
        (3, "warning", "ends in 2 days"),
        (-1, "problem", "expired"),
    ],
)
def test_how_long_a_certificate_is_valid(tmp_path: Path, days: int, state: str, says: str) -> None:
    now = datetime.datetime.now(datetime.UTC)
    until = now + datetime.timedelta(days=days)
    issued = trustme.CA().issue_cert(
        "127.0.0.1", not_before=now - datetime.timedelta(days=30), not_after=until
    )
    certificate, key = tmp_path / "box.pem", tmp_path / "box.key"
    for blob in issued.cert_chain_pems:
        blob.write_to_path(str(certificate), append=True)
    issued.private_key_pem.write_to_path(str(key))
    serve = ServeConfig(tls_certificate=certificate, tls_key=key)
    finding = by_check(check_access(Config(serve=serve)))["certificate"]
    assert (finding.state, finding.exit_code) == (state, 2 if state == "problem" else 0)
    assert says in finding.text
    wrong = ServeConfig(tls_certificate=certificate, tls_key=certificate)
    assert by_check(check_access(Config(serve=wrong)))["certificate"].state == "problem"


# The machine ----------------------------------------------------------------------------------


def test_too_little_memory_is_no_fault_of_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "meminfo"
    said.write_text("MemAvailable:     204800 kB\n")
    monkeypatch.setattr(machine, "MEMORY_INFO", said)
    finding = by_check(check_machine(Config(serve=ServeConfig(port=0))))["memory"]
    assert (finding.state, finding.exit_code) == ("problem", 1)
    assert "200 MB are free" in finding.text


def test_a_limit_of_open_files_that_is_too_low() -> None:
    look = (
        "from streamasr.config import Config\n"
        "from streamasr.doctor.machine import check_machine\n"
        "print({each.check: (each.state, each.mend) for each in check_machine(Config())})\n"
    )
    for limit, state in ((100, "warning"), (200, "ok")):
        run = subprocess.run(
            ["sh", "-c", f'ulimit -n {limit}; exec "$0" -c "$1"', sys.executable, look],
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=True,
        )
        assert f"'open files': ('{state}'" in run.stdout
        assert ("ulimit -Hn 192" in run.stdout) == (state == "warning")


SYSTEMCTL = """#!/bin/sh
case "$*" in
"show "*) printf 'LoadState=not-found\\nActiveState=inactive\\n' ;;
"--user show "*) printf 'LoadState=loaded\\nActiveState={active}\\nUnitFileState={enabled}\\n' \\
    && printf 'SubState={sub}\\n' && printf 'Result=exit-code\\nExecMainStatus=3\\n' ;;
"show-user "*) echo Linger=no ;;
*) exit 9 ;;
esac
"""


@pytest.mark.parametrize(
    ("active", "enabled", "state", "mend"),
    [
        ("active", "enabled", "ok", None),
        ("active", "disabled", "warning", "systemctl --user enable --now streamasr.service"),
        ("inactive", "enabled", "warning", "systemctl --user start streamasr.service"),
        ("activating", "enabled", "warning", "systemctl --user status streamasr.service"),
        ("auto-restart", "enabled", "problem", "journalctl --user -u streamasr.service -n 30"),
        ("failed", "enabled", "problem", "journalctl --user -u streamasr.service -n 30"),
    ],
)
def test_the_unit_of_systemd(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    active: str,
    enabled: str,
    state: str,
    mend: str | None,
) -> None:
    """systemd does not run where tests do: its programs are stood in for."""
    for name in ("systemctl", "loginctl"):
        program = tmp_path / name
        program.write_text(
            SYSTEMCTL.format(
                active="activating" if active == "auto-restart" else active,
                enabled=enabled,
                sub=active,
            )
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(service, "RUNNING", tmp_path)
    findings = by_check(check_service(Config()))
    assert findings.keys() == {"user service", "linger"}
    assert (findings["user service"].state, findings["user service"].mend) == (state, mend)
    assert findings["user service"].exit_code == (3 if state == "problem" else 0)
    assert str(findings["linger"].mend).startswith("sudo loginctl enable-linger ")


def test_without_systemd_nothing_is_said_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "RUNNING", tmp_path / "nowhere")
    assert list(check_service(Config())) == []
