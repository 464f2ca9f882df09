"""Collapse and continuity of residuals, against direct evaluation and planted moves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from saetrack.analysis.figures.collapse import collapse_figure, continuity_figure
from saetrack.analysis.geometry.collapse import (
    collapse_table,
    draw_positions,
    mean_pairwise_cosine,
)
from saetrack.analysis.geometry.continuity import (
    continuity_table,
    displacement,
    linear_cka,
    parameter_displacement,
    warm_start_correlations,
    with_warm_starts,
)
from saetrack.analysis.geometry.inputs import Residuals
from saetrack.utils.figures.steps import Setting
from tests.support.planted_chain import LM_STEPS
from tests.support.planted_figures import drawn_svg


def gaussian(tokens: int, d_in: int, seed: int = 0) -> Tensor:
    return torch.randn(tokens, d_in, generator=torch.Generator().manual_seed(seed))


def test_the_mean_cosine_is_that_over_all_pairs() -> None:
    x = gaussian(12, 5) + 0.5
    x[3] = 0  # no direction: its cosines are 0
    pairs = [
        float(torch.cosine_similarity(x[i].double(), x[j].double(), dim=0))
        for i in range(12)
        for j in range(12)
        if i != j
    ]
    assert mean_pairwise_cosine(x) == pytest.approx(np.mean(pairs))
    assert mean_pairwise_cosine(torch.eye(4)) == pytest.approx(0)
    assert mean_pairwise_cosine(torch.ones(4, 3)) == pytest.approx(1)
    assert np.isnan(mean_pairwise_cosine(torch.ones(1, 3)))


# How far residuals lie along a common direction, in units of their spread: a burst at 16.
COMMON = dict(
    zip(LM_STEPS, [0.5, 0.5, 0.6, 0.7, 2, 6, 0.8, 0.6, 0.5, 0.4, 0.3, 0.3, 0.3, 0.3], strict=True)
)


def bursting(common: dict[int, float] = COMMON) -> list[Residuals]:
    x, direction = gaussian(800, 64), torch.nn.functional.normalize(gaussian(1, 64, 1))
    return [
        Residuals(step, index, x + size * 8 * direction)
        for index, (step, size) in enumerate(common.items())
    ]


def test_the_planted_burst_is_flagged() -> None:
    table = collapse_table(bursting()).set_index("lm_step")
    # Along the common direction s, spread 1 per dimension: a mean cosine of about s^2 / (s^2 + 1).
    expected = pd.Series(COMMON) ** 2 / (pd.Series(COMMON) ** 2 + 1)
    assert table["raw_all"].to_numpy() == pytest.approx(expected.to_numpy(), abs=0.02)
    assert list(table.index[table["severe"]]) == [16]
    assert list(table.index[table["collapsed"]]) == [8, 16]
    assert table["centred_mean"].abs().max() < 0.02
    assert (table["raw_min"] < table["raw_mean"]).all() and (table["draws"] == 5).all()
    rising = collapse_table(bursting({0: 0.1, 10: 1.0, 20: 3.0}))
    assert not rising["collapsed"].any()  # it never comes back: no burst


def test_draws_are_seeded_and_shared_by_checkpoints() -> None:
    same = Residuals(0, 0, gaussian(300, 8)), Residuals(1, 1, gaussian(300, 8))
    table = collapse_table(same, sample=50, draws=7, seed=1)
    assert table["raw_mean"][0] == table["raw_mean"][1]
    positions = draw_positions(300, 50, 7, seed=1)
    direct = [mean_pairwise_cosine(same[0].x[torch.from_numpy(draw)]) for draw in positions]
    assert table.loc[0, ["raw_mean", "raw_min", "raw_max"]].tolist() == pytest.approx(
        [np.mean(direct), min(direct), max(direct)]
    )
    assert table.loc[0, "raw_sd"] == pytest.approx(np.std(direct, ddof=1))
    assert all(len(set(draw)) == 50 for draw in positions)
    with pytest.raises(ValueError, match="300 tokens, fewer than a sample of 400"):
        collapse_table(same, sample=400)


def test_displacement_splits_into_shift_and_shape() -> None:
    x, shift, noise = gaussian(500, 16), torch.full((16,), 0.5), 0.1 * gaussian(500, 16, 1)
    found = displacement(x, x + shift + noise)
    moved = (shift + noise).double()
    lengths = [float(row.norm()) for row in moved]
    assert found["mean_displacement"] == pytest.approx(np.mean(lengths), rel=1e-5)
    assert found["median_displacement"] == pytest.approx(np.median(lengths), rel=1e-5)
    relative = [length / float(row.norm()) for length, row in zip(lengths, x, strict=True)]
    assert found["relative_displacement"] == pytest.approx(np.median(relative), rel=1e-5)
    assert found["mean_shift"] == pytest.approx(2, rel=0.02)  # 0.5 sqrt(16)
    assert found["shape_shift"] == pytest.approx(0.4, rel=0.05)  # 0.1 sqrt(16)
    whole = found["mean_shift"] ** 2 + found["shape_shift"] ** 2
    assert whole == pytest.approx(np.mean(np.square(lengths)), rel=1e-5)
    assert found["mean_shift_share"] == pytest.approx(found["mean_shift"] ** 2 / whole)
    assert found["displacement_over_spread"] == pytest.approx(whole**0.5 / 4, rel=0.02)
    still = displacement(x, x)
    assert still["mean_displacement"] == 0 and still["linear_cka"] == pytest.approx(1)
    assert still["spread_growth"] == 1 and np.isnan(still["mean_shift_share"])
    assert displacement(x, 3 * x)["spread_growth"] == pytest.approx(3)


def test_one_checkpoint_does_not_move() -> None:
    with pytest.raises(ValueError, match="fewer than two checkpoints"):
        continuity_table([Residuals(0, 0, gaussian(5, 3))])


def test_linear_cka_is_that_of_the_kernels() -> None:
    x, y = gaussian(30, 5), gaussian(30, 7, 1)
    centre = torch.eye(30).double() - 1 / 30
    kernels = [centre @ (z.double() @ z.double().T) @ centre for z in (x, y)]
    hsic = [float((a * b).sum()) for a, b in ((kernels[0], kernels[1]), *((k, k) for k in kernels))]
    assert linear_cka(x, y) == pytest.approx(hsic[0] / (hsic[1] * hsic[2]) ** 0.5)
    rotation = torch.linalg.qr(gaussian(5, 5, 2)).Q
    assert linear_cka(x, 3 * x @ rotation + 1) == pytest.approx(1, abs=1e-5)
    assert np.isnan(linear_cka(x, torch.ones(30, 2)))


def test_moves_per_parameter_and_learning_rate() -> None:
    x = gaussian(200, 8)
    residuals = [Residuals(step, i, x + step) for i, step in enumerate((0, 1, 4, 14))]
    table = continuity_table(iter(residuals), {1: 0.5, 4: 1.5, 14: 5.0}, {4: 3.0, 14: 0.0})
    assert table["from_step"].tolist() == [0, 1, 4] and table["lm_step"].tolist() == [1, 4, 14]
    assert table["median_displacement"].to_numpy() == pytest.approx(
        [8**0.5, 3 * 8**0.5, 10 * 8**0.5]
    )
    assert table["displacement_per_parameter"].to_numpy() == pytest.approx(2 * 8**0.5)
    per_rate = table["displacement_per_learning_rate"]
    assert per_rate.isna().tolist() == [True, False, True] and per_rate[1] == pytest.approx(8**0.5)
    before = {"a": torch.zeros(2, 3), "b": torch.zeros(4)}
    after = {"a": torch.ones(2, 3), "b": torch.full((4,), -2.0)}
    assert parameter_displacement(before, after) == pytest.approx((6 + 16) ** 0.5)
    with pytest.raises(ValueError, match="differ"):
        parameter_displacement(before, {"a": torch.zeros(2, 3)})


def wandering() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Moves of known size, and links whose warm starts lose what the move is worth."""
    x, rows = gaussian(300, 16), []
    sizes = [0.0, *np.linspace(0.1, 1.2, 12), 0.3]
    for index, (step, size) in enumerate(zip(LM_STEPS, sizes, strict=True)):
        x = x + size * gaussian(300, 16, index + 1)
        rows.append(Residuals(step, index, x))
    moves = continuity_table(rows, dict.fromkeys(LM_STEPS, 1.0))
    cost = 0.1 * moves["displacement_over_spread"]
    links = pd.DataFrame(
        {
            "lm_step": LM_STEPS,
            "explained_variance": 0.9,
            "start_explained_variance": [0.0, *(0.9 - cost)],
            "tokens": 60_000,
        }
    )
    return moves, links


def test_warm_starts_cost_what_was_planted() -> None:
    moves, links = wandering()
    joined = with_warm_starts(moves, links)
    assert len(joined) == len(LM_STEPS) - 1 and (joined["link_tokens"] == 60_000).all()
    assert joined["warm_start_cost"].to_numpy() == pytest.approx(
        0.1 * joined["displacement_over_spread"].to_numpy()
    )
    found = warm_start_correlations(joined).set_index("measure")
    assert found.loc["displacement_over_spread", "spearman"] == pytest.approx(1)
    assert found.loc["displacement_over_spread", "links"] == 13
    assert np.isnan(warm_start_correlations(joined.iloc[:2])["spearman"]).all()


def test_figures_of_collapse_and_continuity(tmp_path: Path) -> None:
    setting = Setting("planted", "versions 1 to 14", {"quiet": (0, 16), "late": (16, 3000)}, [4])
    path = tmp_path / "figure"
    table = collapse_table(bursting())
    assert "2 of 14 checkpoints" in drawn_svg(
        lambda path: collapse_figure(table, setting, path), path
    )
    drawn_svg(lambda path: continuity_figure(with_warm_starts(*wandering()), setting, path), path)
