"""What the benchmarks measure: the mini-LM's track as the presets have it."""

from __future__ import annotations

from typing import Any

from flows.parameters import deployed_parameters


def mini_track(**changes: Any) -> dict[str, Any]:
    """The parameters of the preset `mini`; a field that is given replaces the preset's."""
    return {**deployed_parameters("track", "mini"), **changes}
