"""The command line: subcommands, exit codes and one line for every refusal."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from streamasr import __version__
from streamasr.cli import main

LIMIT_SECONDS = 20


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["--version"])
    assert done.value.code == 0
    assert capsys.readouterr().out == f"streamasr {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["listen"], ["serve", "--port", "http"]])
def test_usage_errors_exit_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == 2


def test_every_exit_code_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    told = " ".join(capsys.readouterr().out.rpartition("exit codes: ")[2].split())
    assert re.findall(r"\d+", told) == ["0", "1", "2", "3", "4", "5", "130"]


@pytest.mark.parametrize("flags", [["--config", "my.toml"], ["--no-start"], ["--recommend"]])
def test_what_uninstalling_has_no_use_for_is_named(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["install-service", "--uninstall", *flags]) == 2
    complaint = f"streamasr: {flags[0]} does not go with --uninstall; leave one of them out\n"
    assert capsys.readouterr().err == complaint


def test_config_prints_what_is_in_force_and_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "my.toml"
    path.write_text('[serve]\nport = 9000\nhost = "::1"\n')
    assert main(["config", "--config", str(path), "--port", "0", "--input", "none"]) == 0
    printed = capsys.readouterr().out
    settings = tomllib.loads(printed)
    assert settings["serve"]["port"] == 0
    assert settings["serve"]["host"] == "::1"
    assert settings["capture"]["input"] == "none"
    origins = {line.split(" = ")[0]: line.split("# ")[-1] for line in printed.splitlines()}
    assert origins["port"] == "--port"
    assert origins["host"] == str(path)
    assert origins["max_connections"] == "default"


def test_config_prints_an_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--example"]) == 0
    path = tmp_path / "streamasr.toml"
    path.write_text(capsys.readouterr().out)
    assert main(["config", "--config", str(path)]) == 0
    assert str(path) not in capsys.readouterr().out  # everything in it is a comment


def test_errors_are_one_line_and_a_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--config", str(tmp_path / "nowhere.toml")]) == 2
    refused = capsys.readouterr()
    assert refused.out == ""
    assert (
        refused.err
        == f"streamasr: cannot read {tmp_path}/nowhere.toml: No such file or directory\n"
    )


def test_captions_without_a_daemon_exit_with_5(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["captions", "ws://127.0.0.1:1/v1"]) == 5
    assert capsys.readouterr().err.startswith("streamasr: cannot connect to ws://127.0.0.1:1/v1")


def test_a_reader_that_leaves_early_is_no_error() -> None:
    run = subprocess.run(
        f"{sys.executable} -m streamasr config | true",
        shell=True,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=True,
    )
    assert run.stderr == ""
