"""`make bench`, or a part of it: `python -m benchmarks --only step --shapes 512x8192`."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from typing import Any

import pandas as pd
import torch

from benchmarks import contest, cost, end_to_end, tables
from benchmarks.contest import OURS, Plan
from benchmarks.figures import cost_figure, step_figure
from benchmarks.peers import RESULTS, TORCH, say
from saetrack.utils.progress import duration

PARTS = ("step", "end-to-end", "cost")
SHAPES = {"cpu": "512x8192,1024x16384", "cuda": "1024x65536"}
BATCH_TOKENS = {"cpu": 2048, "cuda": 4096}
# Of a round: as many steps as take about as long at every shape.
STEP_WEIGHTS = 16 * 2**20


def bench_steps(given: argparse.Namespace) -> None:
    """The step benchmark at every shape."""
    steps, rooflines = [], []
    for shape in given.shapes:
        d_in, d_sae = (int(number) for number in shape.split("x"))
        n_steps = max(1, STEP_WEIGHTS // (d_in * d_sae)) if given.device == "cpu" else 20
        plan = Plan(d_in, d_sae, given.batch_tokens, given.rounds, n_steps, given.device)
        table, roofline = contest.compete(plan)
        ours_ms = table.loc[table["contestant"] == OURS, "ms_per_step"].min()
        rooflines.append(
            {
                "shape": shape,
                "batch_tokens": plan.batch_tokens,
                "product_ms": 1e3 * roofline.product_s,
                "gflops": roofline.flops_per_s / 1e9,
                "adam_ms": 1e3 * roofline.adam_s,
                "gb_per_s": roofline.bytes_per_s / 1e9,
                "total_ms": 1e3 * roofline.total_s,
                "ours_ms": ours_ms,
                "reached": 1e3 * roofline.total_s / ours_ms,
            }
        )
        title = f"{shape}, batch {plan.batch_tokens:,}, {plan.rounds} rounds of {n_steps}"
        tables.show(table, tables.STEP, title)
        steps.append(table.assign(shape=shape))
    all_steps, all_rooflines = pd.concat(steps), pd.DataFrame(rooflines)
    tables.show(all_rooflines, tables.ROOFLINE, "Roofline")
    tables.keep({"step": all_steps, "roofline": all_rooflines}, _facts(given), RESULTS)
    step_figure(all_steps, all_rooflines, RESULTS / "step")


def bench_end_to_end(given: argparse.Namespace) -> None:
    """One link against SAELens' runner."""
    table = end_to_end.compare(1 if given.quick else 3, given.device)
    tables.show(table, tables.END_TO_END, "A link of the mini-LM's chain, start to finish")
    tables.keep({"end_to_end": table}, _facts(given), RESULTS)


def bench_cost(given: argparse.Namespace) -> None:
    """Cost as the work grows."""
    measured = cost.measure(cost.QUICK if given.quick else cost.Grid())
    tables.show(measured["d_sae"], tables.SHAPES, "The step over d_sae")
    tables.show(measured["d_in"], tables.SHAPES, "The step over d_in")
    tables.show(measured["layers"], tables.LAYERS, "Layers per pass, mini-LM, warm links")
    if len(measured["chain"]):
        tables.show(tables.thirds(measured["chain"]), tables.CHAIN, "Length of the chain")
    named = {f"cost_{panel}": table for panel, table in measured.items()}
    tables.keep(named, _facts(given), RESULTS)
    cost_figure(measured, RESULTS / "cost")


def _facts(given: argparse.Namespace) -> dict[str, Any]:
    """What the numbers hold for."""
    on_gpu = given.device == "cuda"
    return {
        "machine": {
            "device": torch.cuda.get_device_name() if on_gpu else platform.processor() or "cpu",
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "load_average": os.getloadavg()[0],
            "torch": torch.__version__,
            "torch_of_peers": TORCH,
        }
    }


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--shapes", help="of the step benchmark: D_INxD_SAE,...")
    parser.add_argument("--batch-tokens", type=int, help="of a step; 2048, on a GPU 4096")
    parser.add_argument("--rounds", type=int, help="of the step benchmark; 5, quick 2")
    parser.add_argument("--only", choices=PARTS, help="one part instead of all three")
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--device", choices=list(SHAPES), default="cpu")
    given = parser.parse_args(words)
    shapes = given.shapes or ("512x8192" if given.quick else SHAPES[given.device])
    given.shapes = shapes.split(",")
    given.rounds = given.rounds or (2 if given.quick else 5)
    given.batch_tokens = given.batch_tokens or BATCH_TOKENS[given.device]
    return given


def main(words: list[str]) -> int:
    """Run what is asked for; the exit status."""
    given = _arguments(words)
    began_s = time.monotonic()
    load = os.getloadavg()[0]
    if load > 1:
        say(f"this machine is busy (load {load:.1f}): times will be too long, ratios less so")
    parts = {"step": bench_steps, "end-to-end": bench_end_to_end, "cost": bench_cost}
    for name, part in parts.items():
        if given.only in (None, name):
            part(given)
    say(f"done in {duration(time.monotonic() - began_s)}; results in {RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
