"""What the benchmarks measure: the mini-LM's track as the presets have it."""

from __future__ import annotations

from typing import Any

from saetrack.chain.presets import load_preset


def mini_track(**changes: Any) -> dict[str, Any]:
    """The parameters of the preset `mini`; a field that is given replaces the preset's."""
    return {**load_preset("track", "mini"), **changes}
