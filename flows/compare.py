"""A chain beside conventional SAEs. Run it with `python -m flows.compare NAME`."""

from __future__ import annotations

import logging
import sys
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from flows.parameters import takes_fields_of
from flows.terminal import run_here, told_in_one_line
from flows.track import train_missing
from saetrack.analysis.pipeline.config import CompareConfig, load_compare_config
from saetrack.utils.settings import load_settings

log = logging.getLogger("saetrack")


@flow(name="compare", validate_parameters=False)
@takes_fields_of(CompareConfig)
def compare(**parameters: Any) -> State:
    """Train what is missing of chains and conventional SAEs, and hold them against each other.

    The parameters are the fields of `CompareConfig`. A user's mistake fails the run with one line.
    """
    return told_in_one_line(lambda: run_comparison(load_compare_config(parameters)))


def run_comparison(config: CompareConfig) -> str:
    """One comparison per layer, each a run in MLflow; what came of it."""
    chains = [train_missing(one)[1].track.chains for one in config.chains()]
    conventional = [train_missing(one)[1].track.chains for one in config.conventional()]
    from saetrack.analysis.pipeline.compare import compare_chains
    from saetrack.registry import Registry

    registry = Registry(load_settings())
    compare_task = task(name="compare", cache_policy=NO_CACHE)(compare_chains)
    # Tracks hold one chain per layer; a comparison holds the chains of one layer.
    layers = zip(zip(*chains, strict=True), zip(*conventional, strict=True), strict=True)
    return "; ".join(
        compare_task(registry, list(of_layer), list(beside)) for of_layer, beside in layers
    )


if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "mini"
    sys.exit(run_here(compare, load_compare_config, name))
