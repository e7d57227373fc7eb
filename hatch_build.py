"""Packs the shipped models into a wheel; a checkout reads them from its root instead."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SHIPPED = {
    path: f"streamasr/_shipped/{path}"
    for path in (
        "checkpoints/english.safetensors",
        "lm/english.kenlm",
        "lm/lexicon.txt.xz",
        "systemd/streamasr.service",
        "systemd/streamasr-user.service",
        "systemd/streamasr-recommend.service",
        "tests/recordings/demo.flac",
    )
}


class ShipModels(BuildHookInterface[Any]):
    """An editable install gets no copies: they would go stale."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard":
            build_data["force_include"].update(SHIPPED)
