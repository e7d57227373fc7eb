"""Settings as text: those in force, and an example with all of them."""

import json
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from streamasr.config import DESCRIPTIONS, Config, Origins, expected

WIDTH = 100
UNITS = {"_seconds": "Seconds", "_ms": "Milliseconds", "_bytes": "Bytes", "_hz": "Hz"}
USUAL_PORTS = {"serve.vosk_port": 2700, "serve.wyoming_port": 10300}
EXAMPLE_HEAD = """\
# Every setting of streamasr and its default, as `streamasr config --example` prints them.
#
# To change one, take away the # before it. Paths are relative to the folder of this file. Flags
# of the command line go over what stands here; `streamasr config --config FILE` says what is in
# force and where it comes from, `streamasr doctor --config FILE` whether it works.
"""


def config_as_toml(config: Config, origins: Origins) -> str:
    """The effective settings as a configuration file, with where each came from."""
    lines: list[str] = []
    for section, settings in _sections(config):
        lines.append(f"[{section}]")
        for setting, value in settings:
            text = f"# {setting} is not set" if value is None else _assignment(setting, value)
            lines.append(f"{text:<48}  # {origins[f'{section}.{setting}']}")
        lines.append("")
    return "\n".join(lines)


def example_config() -> str:
    """A configuration file in which every setting is explained and stands as a comment."""
    lines = [EXAMPLE_HEAD]
    for section, settings in _sections(Config()):
        lines += [f"[{section}]", ""]
        for setting, value in settings:
            name = f"{section}.{setting}"
            lines += textwrap.wrap(
                f"{DESCRIPTIONS[name]} {_limits(name)}",
                width=WIDTH,
                initial_indent="# ",
                subsequent_indent="# ",
            )
            if value is None:
                lines.append("# Not set by default.")
                value = _placeholder(name)
            lines += [f"#{_assignment(setting, value)}", ""]
    return "\n".join(lines)


def _limits(name: str) -> str:
    """Unit and what is allowed, as a sentence."""
    unit = next((unit for suffix, unit in UNITS.items() if name.endswith(suffix)), "")
    must_be = expected(name)
    return f"{unit}: {must_be}." if unit else f"{must_be[0].upper()}{must_be[1:]}."


def _placeholder(name: str) -> object:
    """What a setting without a default could be."""
    return USUAL_PORTS.get(name) or {"a path": "/path/to/file", "a text": "text"}[expected(name)]


def _sections(config: Config) -> Iterator[tuple[str, list[tuple[str, object]]]]:
    """Every section's name, with the names and values of its settings."""
    for section in fields(config):
        settings = getattr(config, section.name)
        yield section.name, [(each.name, getattr(settings, each.name)) for each in fields(settings)]


def _assignment(setting: str, value: object) -> str:
    return f"{setting} = {_toml_value(value)}"


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, str | Path):
        return json.dumps(str(value), ensure_ascii=False)
    return repr(value)
