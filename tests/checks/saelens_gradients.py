"""Activations, losses and gradients of every architecture beside SAELens' own classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks import tables
from benchmarks.once import run_once
from benchmarks.peers import SAE_LENS
from saetrack.sae.config import (
    BatchTopKConfig,
    JumpReLUConfig,
    ReLUConfig,
    SAEConfig,
    TopKConfig,
)
from saetrack.sae.step import TrainStep
from tests.support.plain_sae import fresh_sae

D_IN, D_SAE, TOKENS = 32, 256, 128
N_DEAD = 40


class Case(NamedTuple):
    """One architecture, here and there. Their losses sum over d_in where ours divide by it."""

    name: str
    config: SAEConfig
    kind: str
    settings: dict[str, Any]
    coefficients: dict[str, float]


def _topk(k: int) -> dict[str, Any]:
    return {"k": k, "aux_loss_coefficient": 0.5, "rescale_acts_by_decoder_norm": False}


CASES = [
    Case(
        "relu",
        ReLUConfig(l1_coefficient=0.5 / D_IN, reconstruction="mse", penalty="decoder_norm"),
        "standard",
        {"l1_coefficient": 0.5},
        {"l1": 0.5},
    ),
    Case(
        "topk",
        TopKConfig(k=9, reconstruction="mse", auxk_coefficient=0.5),
        "topk",
        _topk(9),
        {},
    ),
    Case(
        "batchtopk",
        BatchTopKConfig(k=9, reconstruction="mse", auxk_coefficient=0.5),
        "batchtopk",
        _topk(9),
        {},
    ),
    Case(
        "matryoshka",
        BatchTopKConfig(k=9, reconstruction="mse", auxk_coefficient=0.5, matryoshka=(60, 130)),
        "matryoshka",
        {**_topk(9), "matryoshka_widths": [60, 130, D_SAE]},
        {},
    ),
    Case(
        "jumprelu",
        JumpReLUConfig(
            l0_coefficient=0.1 / D_IN,
            bandwidth=0.4,
            reconstruction="mse",
            pre_act_coefficient=0.2 / D_IN,
        ),
        "jumprelu",
        {"jumprelu_bandwidth": 0.4, "l0_coefficient": 0.1, "pre_act_loss_coefficient": 0.2},
        {"l0": 0.1},
    ),
]


def compare(folder: Path) -> tuple[str, pd.DataFrame]:
    """Their release, and the largest difference of each case, dense and sparse."""
    x = torch.randn(TOKENS, D_IN, generator=torch.Generator().manual_seed(0)) + 0.5
    is_dead = torch.zeros(D_SAE)
    is_dead[:: D_SAE // N_DEAD] = 1
    jobs = []
    for number, case in enumerate(CASES):
        given = {"x": x, "is_dead": is_dead, **_weights(case)}
        save_file(given, folder / f"given{number}.safetensors")
        jobs.append(
            {
                "given": str(folder / f"given{number}.safetensors"),
                "found": str(folder / f"found{number}.safetensors"),
                "kind": case.kind,
                "settings": case.settings,
                "coefficients": case.coefficients,
            }
        )
    answer = run_once(SAE_LENS, "sae_lens_gradient", {"cases": jobs})
    rows = [
        {"architecture": case.name, "step": step, **_difference(case, x, is_dead, theirs, below)}
        for number, case in enumerate(CASES)
        for theirs in [load_file(folder / f"found{number}.safetensors")]
        for step, below in (("dense", 0.0), ("sparse", 2.0))
    ]
    return answer["version"], pd.DataFrame(rows)


COLUMNS: tables.Columns = {
    "architecture": ("architecture", "{}"),
    "step": ("step", "{}"),
    "feature_acts": ("features\ndiffer by", "{:.1e}"),
    "loss": ("loss\ndiffers by", "{:.1e}"),
    "gradient": ("gradient\ndiffers by", "{:.1e}"),
}


def _sae(case: Case) -> Any:
    return fresh_sae(case.config, torch.full((D_IN,), 0.4), D_SAE)


def _weights(case: Case) -> dict[str, Tensor]:
    parameters = _sae(case).named_parameters()
    return {name: parameter.detach().contiguous() for name, parameter in parameters}


def _difference(
    case: Case, x: Tensor, is_dead: Tensor, theirs: dict[str, Tensor], sparse_below: float
) -> dict[str, float]:
    step = TrainStep(_sae(case), case.config, sparse_below=sparse_below)
    if step.objective.dead_features is not None:
        step.objective.dead_features.start(is_dead.bool())
    pairs = step.objective.active_pairs(x, "float32")
    feature_acts = torch.zeros(TOKENS, D_SAE)
    feature_acts[pairs.tokens, pairs.features] = pairs.feature_acts
    rows = step.sae.W_dec.detach().clone()
    terms = step(x, learning_rate=0.0)
    differences = []
    for name, moment in step.adam.exp_avg.items():
        found = moment.T if name == "W_enc" else moment
        expected = theirs[f"{name}.grad"] / D_IN
        if name == "W_dec" and case.config.unit_rows:
            expected = expected - (expected * rows).sum(dim=1, keepdim=True) * rows
        differences.append(_relative(found / (1 - 0.9), expected))
    return {
        "feature_acts": _relative(feature_acts, theirs["feature_acts"]),
        "loss": _relative(terms.loss, theirs["loss"] / D_IN),
        "gradient": max(differences),
    }


def _relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())
