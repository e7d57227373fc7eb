"""The shipped units, and what ``streamasr install-service`` makes of them."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from streamasr.cli import main
from streamasr.config import Config, load_config, shipped
from streamasr.errors import ConfigError, StreamasrError
from streamasr.service_unit import is_hidden, system_unit, user_unit

LIMIT_SECONDS = 60
UNITS = ("streamasr.service", "streamasr-user.service", "streamasr-recommend.service")
MOST_EXPOSURE = 2.0
NOBODY = 65_534

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze not installed (apt: systemd)"
)


@pytest.fixture
def installable() -> None:
    try:
        system_unit(None, Config())
    except ConfigError as error:
        pytest.skip(f"no service could run from here: {error}")


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


def complaints(unit: Path, *options: str) -> str:
    """What ``systemd-analyze verify`` says; empty where all is well."""
    verified = run("systemd-analyze", "verify", "--man=no", *options, unit)
    return verified.stdout + verified.stderr


@needs_systemd
@pytest.mark.parametrize("name", UNITS)
def test_the_shipped_units_are_valid(name: str) -> None:
    assert complaints(shipped("systemd", name)) == ""


@pytest.mark.parametrize("name", UNITS)
def test_what_ends_is_started_again_but_not_for_ever(name: str) -> None:
    lines = shipped("systemd", name).read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if re.match(r"\w+=", line))
    assert settings["Restart"] == "on-failure"
    pause_seconds, most = int(settings["RestartSec"]), int(settings["StartLimitBurst"])
    assert pause_seconds >= 1
    assert most >= 2
    assert most * pause_seconds < int(settings["StartLimitIntervalSec"])  # it can be reached


@needs_systemd
def test_a_mistake_in_a_unit_would_be_noticed(tmp_path: Path) -> None:
    unit = tmp_path / "streamasr.service"
    unit.write_text(shipped("systemd", unit.name).read_text().replace("UMask", "UMsak"))
    assert "UMsak" in complaints(unit)


@needs_systemd
@pytest.mark.parametrize("name", ["streamasr.service", "streamasr-recommend.service"])
def test_the_system_units_are_locked_down(name: str) -> None:
    assert exposure(shipped("systemd", name)) <= MOST_EXPOSURE


def exposure(unit: Path) -> float:
    """0 is locked down, 10 is open."""
    judged = run("systemd-analyze", "security", "--offline=true", "--no-pager", unit)
    verdict = judged.stdout.rpartition("Overall exposure level")[2]
    return float(verdict.partition(":")[2].split()[0])


@needs_systemd
@pytest.mark.usefixtures("installable")
def test_what_is_installed_is_valid_enabled_and_removed_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "my settings.toml"
    config.write_text("[serve]\nport = 9000\n")
    tmp_path.chmod(0o755)  # the service's user gets in
    root = tmp_path / "root"
    assert main(["install-service", "--root", str(root), "--config", str(config)]) == 0
    unit = root / "etc/systemd/system/streamasr.service"
    assert capsys.readouterr().out == f"wrote {unit}\n"
    assert complaints(unit) == ""
    assert exposure(unit) <= MOST_EXPOSURE
    (start,) = [line for line in unit.read_text().splitlines() if line.startswith("ExecStart=")]
    assert start == f'ExecStart={sys.executable} -P -m streamasr serve --wait --config "{config}"'
    wanted = root / "etc/systemd/system/multi-user.target.wants/streamasr.service"
    assert wanted.is_symlink()
    assert main(["install-service", "--root", str(root), "--config", str(config)]) == 0
    assert main(["install-service", "--root", str(root), "--uninstall"]) == 0
    assert [path for path in root.rglob("*") if not path.is_dir()] == []
    assert main(["install-service", "--root", str(root), "--uninstall"]) == 2
    assert "nothing is installed" in capsys.readouterr().err


@needs_systemd
def test_a_user_installs_for_himself(tmp_path: Path) -> None:
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "SYSTEMD_OFFLINE": "1"}
    command = (sys.executable, "-m", "streamasr", "install-service", "--user")
    installed = run(*command, "--no-start", **environment)
    assert installed.returncode == 0, installed.stderr
    assert "loginctl enable-linger" in installed.stdout
    assert "systemctl --user restart streamasr.service" in installed.stdout
    unit = tmp_path / "systemd/user/streamasr.service"
    assert f"ExecStart={sys.executable} " in unit.read_text()
    assert (tmp_path / "systemd/user/default.target.wants/streamasr.service").is_symlink()
    assert run(*command, "--uninstall", **environment).returncode == 0
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


@needs_systemd
def test_what_somebody_else_wrote_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unit = tmp_path / "etc/systemd/system/streamasr.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    for arguments in ([], ["--uninstall"]):
        assert main(["install-service", "--root", str(tmp_path), *arguments]) == 2
        assert f"mv {unit} {unit}.old" in capsys.readouterr().err
    assert unit.read_text() == "[Service]\nExecStart=/bin/true\n"


@needs_systemd
@pytest.mark.usefixtures("installable")
def test_no_recommender_is_promised_that_does_not_exist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if run(sys.executable, "-m", "streamasr", "recommend", "--help").returncode == 0:
        pytest.skip("this version has a recommender")
    assert main(["install-service", "--root", str(tmp_path), "--recommend"]) == 2
    assert "no 'streamasr recommend'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@needs_systemd
def test_who_is_not_root_is_told_what_to_type() -> None:
    """Root turns into nobody once all is imported: Python may lie in a home."""
    program = (
        "import os, sys, streamasr.install\n"
        "from streamasr.cli import main\n"
        f"if os.geteuid() == 0: os.setuid({NOBODY})\n"
        "sys.exit(main())\n"
    )
    command = (sys.executable, "-c", program, "install-service", "--config", "my settings.toml")
    refused = run(*command)
    assert refused.returncode == 2
    again = "install-service --config 'my settings.toml'"
    assert f"needs root: sudo {sys.executable} -m streamasr {again} " in refused.stderr


def test_a_mistake_in_the_configuration_is_found_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "my.toml"
    config.write_text("[serve]\nprot = 9000\n")
    root = tmp_path / "root"
    assert main(["install-service", "--root", str(root), "--config", str(config)]) == 2
    assert "did you mean port?" in capsys.readouterr().err
    assert not root.exists()


def unit_for(tmp_path: Path, settings: str) -> str:
    if not is_hidden(tmp_path):
        pytest.skip(f"{tmp_path} is no folder that a service does not see")
    tmp_path.chmod(0o755)  # the service's user gets in
    path = tmp_path / "my.toml"
    path.write_text(settings)
    return system_unit(path, load_config(path)[0]).text


@pytest.mark.usefixtures("installable")
def test_a_file_in_a_home_is_seen_with_its_folder(tmp_path: Path) -> None:
    """``tmp_path`` is as hidden from the service as a home is. A file that is bound itself would
    stay the old one when an editor puts another in its place."""
    (tmp_path / "words.txt").write_text("tavik\n")
    lines = unit_for(tmp_path, '[model]\nhot_phrases = "words.txt"\n').splitlines()
    assert f"BindReadOnlyPaths={tmp_path}" in lines
    assert not any(line.endswith((".txt", ".toml")) for line in lines if "Bind" in line)


@pytest.mark.usefixtures("installable")
def test_where_the_settings_are_a_link_it_is_the_link_that_is_named(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "any.toml").write_text('[model]\nhot_phrases = "words.txt"\n')
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "words.txt").write_text("tavik\n")
    path = linked / "my.toml"
    path.symlink_to(kept / "any.toml")
    lines = system_unit(path, load_config(path)[0]).text.splitlines()
    assert any(line.endswith(f"--config {path}") for line in lines)
    if is_hidden(tmp_path):
        assert {f"BindReadOnlyPaths={linked}", f"BindReadOnlyPaths={kept}"} <= set(lines)


@pytest.mark.usefixtures("installable")
def test_a_whole_home_is_not_shown_to_the_service() -> None:
    descriptor, name = tempfile.mkstemp(dir="/tmp", suffix=".toml")
    os.close(descriptor)
    path = Path(name)
    try:
        path.chmod(0o644)
        with pytest.raises(ConfigError, match=f"does not see; type: sudo install .*{path.name}"):
            system_unit(path, Config())
    finally:
        path.unlink()


@pytest.mark.usefixtures("installable")
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ('[serve]\nhost = "0.0.0.0"', "clients need a token"),
        ('[serve]\nwyoming_host = "0.0.0.0"', "list who may use it"),
        ('[serve]\ntoken_file = "file"', "chmod 600 .*file|set it to /var/lib/streamasr/file"),
        ('[serve]\ntls_certificate = "file"', "need each other"),
        ('[capture]\ninput = "-"', "no standard input"),
        ('[capture]\ninput = "nowhere.wav"', "cannot read .*nowhere.wav"),
        ('[capture]\nfallback = "file"', "not audio"),
        ('[capture]\nfallback = "file"\nwait = true', "leave one of them out"),
        ('[model]\ncheckpoint = "file"', "checkpoint .*file"),
        ('[model]\nlexicon = "file"', "lexicon"),
    ],
)
def test_what_the_daemon_would_refuse_is_not_installed(
    tmp_path: Path, settings: str, says: str
) -> None:
    (tmp_path / "file").write_text("nothing of the kind")
    with pytest.raises(StreamasrError, match=says):
        unit_for(tmp_path, settings)
    path = tmp_path / "my.toml"
    with pytest.raises(StreamasrError, match=says):
        user_unit(path, load_config(path)[0])


@pytest.mark.usefixtures("installable")
def test_what_the_service_cannot_read_is_named_with_the_mend(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("tavik\n")
    words.chmod(0o600)
    with pytest.raises(ConfigError, match=f"cannot read {words}; type: sudo install -D -m 644"):
        unit_for(tmp_path, '[model]\nhot_phrases = "words.txt"\n')
    words.chmod(0o644)
    tmp_path.chmod(0o700)
    path = tmp_path / "my.toml"
    with pytest.raises(ConfigError, match=f"cannot enter {tmp_path}; .* and set model.hot_phrases"):
        system_unit(path, load_config(path)[0])


@needs_systemd
def test_a_mend_can_be_typed_as_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "my disk"
    unit = root / "etc/systemd/system/streamasr.service"
    unit.parent.mkdir(parents=True)
    unit.write_bytes(b"\xff not ours")
    assert main(["install-service", "--root", str(root), "--uninstall"]) == 2
    assert f"mv '{unit}' '{unit}.old'" in capsys.readouterr().err
    unit.unlink()
    unit.mkdir()
    assert main(["install-service", "--root", str(root), "--uninstall"]) == 2
    assert f"cannot read {unit}: Is a directory" in capsys.readouterr().err


@needs_systemd
def test_a_user_has_no_root_folder_of_his_own(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--uninstall"]):
        assert main(["install-service", "--user", "--root", "/nowhere", *arguments]) == 2
        assert "leave --root out" in capsys.readouterr().err


@pytest.mark.usefixtures("installable")
def test_what_the_service_writes_lies_where_it_may(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set it to /var/lib/streamasr/token"):
        unit_for(tmp_path, '[serve]\ntoken_file = "token"\n')
    assert unit_for(tmp_path, '[serve]\ntoken_file = "/var/lib/streamasr/token"\n')


@pytest.mark.usefixtures("installable")
def test_the_network_is_opened_only_where_it_is_asked_for(tmp_path: Path) -> None:
    assert "IPAddressDeny=any" in unit_for(tmp_path, "")
    opened = '[serve]\nhost = "0.0.0.0"\ntoken_file = "/var/lib/streamasr/token"\n'
    assert "IPAddress" not in unit_for(tmp_path, opened)


@pytest.mark.usefixtures("installable")
def test_a_fallback_needs_no_waiting(tmp_path: Path, demo_wav: Path) -> None:
    assert "serve --wait" in system_unit(None, Config()).text
    assert "--wait" not in unit_for(tmp_path, f'[capture]\nfallback = "{demo_wav}"\n')
