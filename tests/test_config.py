"""Settings: the file over the defaults, flags over the file, every mistake at once."""

import re
import tomllib
from pathlib import Path

import pytest

from streamasr.config import DESCRIPTIONS, Config, expected, load_config, setting_types
from streamasr.config_text import config_as_toml, example_config
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


@pytest.mark.parametrize("given", ["mic", "none", "-", "sounds/door.wav"])
def test_an_input_that_is_a_file_is_relative_to_it_too(tmp_path: Path, given: str) -> None:
    path = write(tmp_path, f'[capture]\ninput = "{given}"')
    is_file = given == "sounds/door.wav"
    assert load_config(path)[0].capture.input == (str(tmp_path / given) if is_file else given)
    flags = {"capture.input": ("--input", "here.wav")}
    assert load_config(path, flags)[0].capture.input == "here.wav"


def test_who_waits_for_a_microphone_needs_no_fallback(tmp_path: Path) -> None:
    path = write(tmp_path, '[capture]\nfallback = "demo.flac"')
    with pytest.raises(ConfigError, match="leave one of them out"):
        load_config(path, {"capture.wait": ("--wait", True)})


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '[serve]\nprot = 1\nport = 70000\nmax_connections = true\nallowed_origins = "x"\n'
        '[sevre]\n[model]\nunits = "letters"\ncheckpoint = 3\nuse_language_model = 1\n'
        '[decoder]\nbeam_size = 1.5\nlm_weight = "heavy"\n[history]\nmax_bytes = 1\n',
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
        "history.max_bytes must be a whole number in 10000..1000000000000, not 1",
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


def test_every_setting_is_described_in_a_sentence() -> None:
    assert DESCRIPTIONS.keys() == setting_types().keys()
    for name, text in DESCRIPTIONS.items():
        assert re.fullmatch(r"\w[^\n]+\.", text), name


def test_the_example_names_every_setting_with_its_limits() -> None:
    example = example_config()
    assert max(map(len, example.splitlines())) <= 100
    unwrapped = example.replace("\n# ", " ")
    for name in setting_types():
        assert re.search(rf"^#{name.partition('.')[2]} = ", example, re.MULTILINE), name
        assert DESCRIPTIONS[name] in unwrapped
        assert expected(name)[1:] in unwrapped
    for says in ("Seconds: a number in 0.1..86400.", "Milliseconds: a whole number in 10..250."):
        assert says in unwrapped


def test_the_example_changes_nothing(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, example_config())) == (Config(), load_config()[1])


def test_the_example_without_the_hash_before_any_setting_sets_them_all(tmp_path: Path) -> None:
    example = example_config()
    path = write(tmp_path, re.sub(r"^#(?! |$)", "", example, flags=re.MULTILINE))
    config, origins = load_config(path)
    assert set(origins.values()) == {str(path)}
    for name in origins:
        assert default_of(name) in (None, value_of(config, name)), name


def default_of(name: str) -> object:
    return value_of(Config(), name)


def value_of(config: Config, name: str) -> object:
    section, _, setting = name.partition(".")
    return getattr(getattr(config, section), setting)


def test_the_stored_example_is_what_the_program_prints() -> None:
    stored = Path(__file__).parents[1] / "systemd" / "streamasr.toml"
    assert stored.read_text(encoding="utf-8") == example_config(), (
        "streamasr config --example > systemd/streamasr.toml"
    )
