"""Settings: the file over the defaults, flags over the file, every mistake at once."""

import tomllib
from pathlib import Path

import pytest

from streamasr.config import Config, config_as_toml, load_config
from streamasr.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "streamasr.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_come_from_the_dataclasses() -> None:
    config, origins = load_config()
    assert config == Config()
    assert set(origins.values()) == {"default"}


def test_flags_go_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, '[serve]\nport = 9000\nhost = "::1"\n[endpoint]\nutterance_seconds = 9')
    config, origins = load_config(path, {"serve.port": ("--port", 0)})
    assert (config.serve.port, config.serve.host) == (0, "::1")
    assert config.endpoint.utterance_seconds == 9.0
    assert isinstance(config.endpoint.utterance_seconds, float)
    assert origins["serve.port"] == "--port"
    assert origins["serve.host"] == str(path)
    assert origins["serve.max_connections"] == "default"


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path) -> None:
    path = write(tmp_path, '[model]\ncheckpoint = "mine.safetensors"')
    assert load_config(path)[0].model.checkpoint == tmp_path / "mine.safetensors"


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '[serve]\nprot = 1\nport = 70000\nmax_connections = true\nallowed_origins = "x"\n'
        '[sevre]\n[model]\nunits = "letters"\ncheckpoint = 3\nuse_language_model = 1\n'
        '[decoder]\nbeam_size = 1.5\nlm_weight = "heavy"\n',
    )
    with pytest.raises(ConfigError) as refusal:
        load_config(path, {"capture.block_ms": ("--block-ms", 1)})
    message = str(refusal.value)
    for says in (
        "unknown key serve.prot (did you mean port?)",
        "unknown section [sevre] (did you mean serve?)",
        "serve.port must be a whole number in 0..65535, not 70000",
        "serve.max_connections must be a whole number in 1..100000, not True",
        "serve.allowed_origins must be a list of texts",
        "model.units must be 'phones' or 'characters', not 'letters'",
        "model.checkpoint must be a path, not 3",
        "model.use_language_model must be true or false, not 1",
        "decoder.beam_size must be a whole number in 1..10000, not 1.5",
        "decoder.lm_weight must be a number, not 'heavy'",
        "capture.block_ms (--block-ms) must be a whole number in 10..250, not 1",
    ):
        assert says in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "says"), [("[serve", "is not TOML"), ("serve = 3", "must be a section")]
)
def test_files_that_are_no_configuration(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_config(write(tmp_path, text))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*nowhere\.toml"):
        load_config(tmp_path / "nowhere.toml")


def test_the_printed_settings_are_a_configuration_file(tmp_path: Path) -> None:
    config, origins = load_config(
        write(tmp_path, '[capture]\ninput = "none"\n[serve]\nallowed_origins = ["http://a:1"]\n')
    )
    printed = config_as_toml(config, origins)
    assert tomllib.loads(printed)["capture"]["input"] == "none"
    assert load_config(write(tmp_path, printed))[0] == config
    assert "# default" in printed
    assert "# device is not set" in printed
