"""What this project's work costs as it grows: dictionary, width, layers, length of the chain."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import pandas as pd

from benchmarks.once import run_once
from benchmarks.peers import UnavailableError, say
from saetrack.utils.progress import duration

BATCH_TOKENS = 2048
LAYER_TOKENS = 60_000


@dataclass(frozen=True)
class Grid:
    """Which points are measured.

    Attributes:
        d_sae: dictionaries, at a d_in of 512.
        d_in: widths, at a d_sae of 8,192.
        layers: per pass of the mini-LM.
        links: lengths of chains.
        steps: timed, of each shape.
    """

    d_sae: tuple[int, ...] = (4096, 8192, 16_384, 32_768, 65_536)
    d_in: tuple[int, ...] = (128, 256, 512, 1024, 2048)
    layers: tuple[tuple[int, ...], ...] = ((2,), (1, 2), (1, 2, 3))
    links: tuple[int, ...] = (10, 50, 150)
    steps: int = 5


QUICK = Grid(
    d_sae=(4096, 16_384), d_in=(128, 1024), layers=((2,), (1, 2, 3)), links=(5, 15), steps=3
)


def measure(grid: Grid) -> dict[str, pd.DataFrame]:
    """One table per panel: `d_sae`, `d_in`, `layers`, `chain`."""
    points: dict[str, list[Callable[[], list[dict[str, Any]]]]] = {
        "d_sae": [partial(_step, 512, n, grid.steps) for n in grid.d_sae],
        "d_in": [partial(_step, n, 8192, grid.steps) for n in grid.d_in],
        "layers": [partial(_layers, layers) for layers in grid.layers],
        "chain": [partial(_chain, n) for n in grid.links],
    }
    total, done = sum(len(work) for work in points.values()), 0
    began_s = time.monotonic()
    tables = {}
    for panel, work in points.items():
        rows = []
        for point in work:
            try:
                rows += point()
            except UnavailableError as error:
                say(str(error))
            done += 1
            left_s = (time.monotonic() - began_s) / done * (total - done)
            say(f"cost: {panel}: {done} of {total} points, about {duration(left_s)} left")
        tables[panel] = pd.DataFrame(rows)
    return tables


def _step(d_in: int, d_sae: int, steps: int) -> list[dict[str, Any]]:
    """The sparse step of one shape."""
    job = {"d_in": d_in, "d_sae": d_sae, "batch_tokens": BATCH_TOKENS, "steps": steps}
    answer = run_once(None, "cost_step", job)
    row = {
        "d_in": d_in,
        "d_sae": d_sae,
        "l0": answer["l0"],
        "us_per_token": 1e6 * median(answer["seconds"]) / BATCH_TOKENS,
        "peak_mb": answer["peak_bytes"] / 1e6,
        "peak_kb_per_token": answer["peak_bytes"] / 1e3 / BATCH_TOKENS,
    }
    return [row]


def _layers(layers: tuple[int, ...]) -> list[dict[str, Any]]:
    """Warm links of the mini-LM, evaluation included, registry left out."""
    answer = run_once(None, "cost_layers", {"layers": list(layers), "tokens": LAYER_TOKENS})
    us_per_token = 1e6 * median(answer["seconds"]) / LAYER_TOKENS
    row = {
        "layers": len(layers),
        "us_per_token": us_per_token,
        "us_per_token_and_layer": us_per_token / len(layers),
        "peak_mb": answer["peak_bytes"] / 1e6,
    }
    return [row]


def _chain(links: int) -> list[dict[str, Any]]:
    """One row per link of a chain over the nano LM."""
    answer = run_once(None, "cost_chain", {"links": links})
    per_link = zip(answer["registry_s"], answer["link_s"], strict=True)
    return [
        {
            "links": links,
            "number": number,
            "registry_ms": 1e3 * registry_s,
            "link_ms": 1e3 * link_s,
            "finish_ms": 1e3 * answer["finish_s"],
            "resident_mb": answer["resident_bytes"] / 1e6,
        }
        for number, (registry_s, link_s) in enumerate(per_link)
    ]
