"""Theorem 2.1 as stated: K against the whole Jacobian, G and steps against torch's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import GPTNeoXForCausalLM

from saetrack.analysis.figures.theorem import theorem_figure
from saetrack.analysis.geometry.continuity import MOVES, warm_start_correlations
from saetrack.analysis.geometry.theorem import (
    LEARNING_RATES,
    TheoremNumbers,
    TrainingPath,
    measure_theorem,
    theorem_path_table,
    theorem_table,
)
from saetrack.lm.hook import Hook
from saetrack.lm.hooked import HookedLM
from saetrack.lm.parameter_steps import ParameterSteps
from saetrack.utils.figures.steps import Setting
from tests.support.planted_figures import drawn_svg, kept_figures
from tests.support.tiny_lm import tiny_neox

ROWS = torch.randint(0, 97, (6, 20), generator=torch.Generator().manual_seed(0))
POSITIONS = torch.tensor([3, 7, 12, 19, 0, 9])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tiny_neox(hidden_size=16, intermediate_size=32).save_pretrained(folder)
    return folder


@pytest.fixture
def lm(folder: Path) -> HookedLM:
    return HookedLM(folder, [Hook("resid_pre", 1)], whole=True)


def residual(model: GPTNeoXForCausalLM, prefix: torch.Tensor) -> torch.Tensor:
    """Centred, in front of block 1, of the last token."""
    x = model(prefix[None], output_hidden_states=True).hidden_states[1][0, -1]
    return x - x.mean()


def test_k_is_the_largest_singular_value_of_the_whole_jacobian(folder: Path, lm: HookedLM) -> None:
    model = GPTNeoXForCausalLM.from_pretrained(folder).eval()
    for row, position in ((0, 3), (1, 12)):
        prefix = ROWS[row, : position + 1]
        gradients = []
        for number in range(16):
            model.zero_grad()
            residual(model, prefix)[number].backward()
            parts = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
            gradients.append(torch.cat(parts))
        exact = float(torch.linalg.matrix_norm(torch.stack(gradients), ord=2))
        found = ParameterSteps(lm).lipschitz(prefix, seed=0)
        assert 0.97 * exact < found <= exact * 1.0001, "a lower estimate"


def test_steps_go_down_the_gradient_and_are_taken_back(folder: Path, lm: HookedLM) -> None:
    start = lm.activations(ROWS)[0]
    found = measure_theorem(lm, ROWS[:5], ROWS, POSITIONS, seed=0)
    assert torch.equal(lm.activations(ROWS)[0], start), "the LM is as it was"
    assert all(not weight.requires_grad and weight.grad is None for weight in lm.parameters())
    model = GPTNeoXForCausalLM.from_pretrained(folder).eval()
    model(ROWS[:5], labels=ROWS[:5]).loss.backward()
    norms = [float(weight.grad.norm()) for weight in model.parameters()]
    assert found.gradient_norm == pytest.approx(np.linalg.norm(norms), rel=1e-4)
    assert found.gradient_norm_below < found.gradient_norm
    before = [residual(model, row[: at + 1]) for row, at in zip(ROWS, POSITIONS, strict=True)]
    torch.optim.SGD(model.parameters(), lr=LEARNING_RATES[4]).step()
    after = [residual(model, row[: at + 1]) for row, at in zip(ROWS, POSITIONS, strict=True)]
    moved = [float((y - x).norm().detach()) for x, y in zip(before, after, strict=True)]
    assert found.moved[4] == pytest.approx(moved, rel=0.01)
    table = theorem_table({8: found})
    assert table["learning_rate"].iloc[-1] == pytest.approx(1e4 * table["learning_rate"].iloc[0])
    assert table["holds"].all() and (table["looseness"] > 1).all()
    # As long a step elsewhere moves less than one down the gradient.
    assert (table["random_movement"] < table["movement"]).all()


def planted(lipschitz: float = 3.0, gradient_norm: float = 2.0) -> TheoremNumbers:
    """Two tokens; the second is moved half as far as the bound allows, up to the largest rate."""
    rates = np.array(LEARNING_RATES)
    moved = np.stack([0.1 * rates, 0.5 * lipschitz * gradient_norm * rates], axis=1)
    moved[-1, 0] = 7.0
    return TheoremNumbers(np.array([1.0, lipschitz]), gradient_norm, 1.0, moved, moved / 10, rows=4)


def test_a_bound_that_is_exceeded_is_said_to_be() -> None:
    table = theorem_table({0: planted()})
    assert table["bound"].to_numpy() == pytest.approx(6 * np.array(LEARNING_RATES))
    assert table["looseness"].iloc[:-1].to_numpy() == pytest.approx(2)
    assert table["holds"].tolist() == [True] * 8 + [False]
    assert table["lipschitz_median"].iloc[0] == 2


def test_the_way_of_training_is_held_against_rates_and_against_parameters() -> None:
    paths = {
        0: TrainingPath(1, np.array([3.0, 12.0]), 0.5, 8.0),
        1: TrainingPath(4, np.array([1.0, 3.0]), float("nan"), 4.0),
    }
    table = theorem_path_table({0: planted(), 1: planted()}, paths)
    assert table["over_bound"][0] == pytest.approx(12 / (6 * 0.5))
    assert np.isnan(table["over_bound"][1]), "the learning rate is not known"
    assert table["over_displacement_bound"].tolist() == pytest.approx([12 / 24, 3 / 12])


def test_the_figure_says_whether_the_bound_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {step: planted(3.0 + step) for step in (0, 1, 16)}
    way = TrainingPath(1, np.array([3.0, 60.0]), 0.5, 8.0)
    paths = theorem_path_table(found, dict.fromkeys(found, way))
    # Of the chain's checkpoints it shows few; a collapsed one may be between them.
    setting = Setting("planted", "versions 1 to 3", collapsed=(4,))
    drawn_svg(
        lambda path: theorem_figure(theorem_table(found), paths, setting, path), tmp_path / "f"
    )
    figures = kept_figures(monkeypatch)
    theorem_figure(theorem_table(found), paths, setting, tmp_path / "g")
    said = figures[0].get_supxlabel().replace("\n", " ")
    assert "is exceeded by 1 of the 27 steps" in said


def test_neighbours_that_are_alike_make_a_wide_interval_and_no_p_value() -> None:
    generator = np.random.default_rng(0)
    links = 24
    move = np.linspace(2, 1, links)
    joined = pd.DataFrame(dict.fromkeys(MOVES, move + 0.001 * generator.normal(size=links)))
    # Both fall along the chain, and otherwise have nothing to do with each other.
    joined["warm_start_cost"] = move + 0.02 * generator.normal(size=links)
    found = warm_start_correlations(joined).iloc[0]
    assert "p_value" not in found and found["spearman"] > 0.9
    assert found["spearman_low"] < found["spearman"] <= found["spearman_high"] <= 1
    assert abs(found["spearman_of_changes"]) < 0.45
    few = warm_start_correlations(joined.iloc[:11]).iloc[0]
    assert np.isnan(few["spearman_low"]) and np.isfinite(few["spearman"])
