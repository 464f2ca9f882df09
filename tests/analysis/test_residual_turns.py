"""Residuals' own turns, rates and verdicts, on streams that change while directions stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from saetrack.analysis.drift.controls import (
    ControlDrift,
    compare_with_controls,
    drift_after_formation,
)
from saetrack.analysis.drift.measure import Drift, measure_drift, quantile_table
from saetrack.analysis.drift.rates import rate_table
from saetrack.analysis.drift.residual_turns import (
    ContextResiduals,
    ResidualTurns,
    median,
    residual_turns,
)
from saetrack.analysis.drift.verdicts import verdicts
from saetrack.analysis.figures.drift_rates import drift_rates_figure
from saetrack.utils.figures.steps import Setting
from tests.support.planted_chain import LM_STEPS, phased_angles, rotating
from tests.support.planted_figures import kept_figures

D_IN, FEATURES, K, TOKENS = 32, 40, 20, 1000
LINKS = len(LM_STEPS)
NAMES = range(FEATURES)
# What features turn by, link by link, where they turn.
TURN = 0.1
STILL = ("still", "noise grows", "all rotates", "scale grows", "all at once")


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stream(kind: str) -> list[ContextResiduals]:
    """Tokens on which few directions are active, and contexts on which one is; with a mean."""
    turning = (kind == "directions turn") * TURN * np.arange(LINKS)
    planes = torch.linalg.qr(normal(FEATURES, D_IN, 2, seed=0)).Q
    skew = normal(D_IN, D_IN, seed=1)
    skew = (skew - skew.T) / (skew - skew.T).norm() * D_IN**0.5
    acts = (normal(TOKENS, FEATURES, seed=2) > 1.5) * normal(TOKENS, FEATURES, seed=3).abs()
    strength = 2 + normal(FEATURES, K, 1, seed=4).abs()
    found = []
    for link, (step, angle) in enumerate(zip(LM_STEPS, turning, strict=True)):
        rows = np.cos(angle) * planes[..., 0] + np.sin(angle) * planes[..., 1]
        is_all = kind == "all at once"
        noise = 0.05 + 0.015 * link * (kind == "noise grows" or is_all)
        whole = torch.linalg.matrix_exp(0.1 * link * skew * (kind == "all rotates" or is_all))
        scale = 1 + link * (kind == "scale grows" or is_all)
        sample = acts @ rows + noise * normal(TOKENS, D_IN, seed=100 + link)
        contexts = strength * rows[:, None] + noise * normal(FEATURES, K, D_IN, seed=200 + link)
        parts = ((part + 0.5) @ whole * scale for part in (sample, contexts))
        found.append(ContextResiduals(step, link, *parts))
    return found


@pytest.fixture(scope="module")
def turns() -> dict[str, ResidualTurns]:
    kinds = (*STILL, "directions turn")
    return {kind: residual_turns(stream(kind), NAMES) for kind in kinds}


@pytest.mark.parametrize("kind", STILL)
def test_directions_that_stand_still_are_seen_to(kind: str, turns) -> None:
    table = turns[kind].table()
    assert (table["features"] == FEATURES).all()
    assert np.isnan(table["to_previous"][0]) and (table["to_previous"][1:] > 0.995).all()
    assert (table["to_late"] > 0.99).all()
    if "rotates" in kind:
        assert (table["rotating_to_previous"][1:] < 0.998).all()
        assert table["rotating_to_late"][0] < 0.5


def test_the_planted_turn_of_residuals_is_found(turns) -> None:
    found = turns["directions turn"]
    with_rotation = np.arccos([median(row) for row in found.rotating_to_previous[1:]])
    assert with_rotation == pytest.approx(TURN, abs=0.005)
    own = np.arccos([median(row) for row in found.to_previous[1:]])
    # Of 40 turns in 32 dimensions, a common rotation can be a part.
    assert (own > 0.6 * TURN).all() and (own < with_rotation).all()
    late = np.arccos(np.clip([median(row) for row in found.rotating_to_late], -1, 1))
    assert late == pytest.approx(TURN * np.abs(np.arange(LINKS) - (LINKS - 2)), abs=0.02)


def test_what_favours_contexts_at_the_final_checkpoint_is_at_no_other() -> None:
    """Contexts are chosen there: their noise has a direction, which is not the stream's."""
    *before, final = stream("noise grows")
    favoured = normalize(normal(FEATURES, 1, D_IN, seed=5), dim=-1)
    found = residual_turns([*before, final._replace(contexts=final.contexts + favoured)], NAMES)
    assert median(found.to_previous[-1]) < 0.97
    assert min(median(row) for row in found.to_late[:-1]) > 0.99


def test_contexts_that_say_nothing_are_unknown() -> None:
    checkpoints = stream("still")
    noise = [
        at._replace(
            contexts=torch.cat([at.contexts[:4], 0.5 + normal(4, K, D_IN, seed=at.lm_step)])
        )
        for at in checkpoints
    ]
    found = residual_turns(noise, range(8))
    assert np.isfinite(found.to_late[:, :4]).all() and np.isnan(found.to_late[:, 4:]).all()
    short = [at._replace(contexts=at.contexts.clone()) for at in checkpoints]
    for at in short:
        at.contexts[:, 15:] = 0  # lists that are shorter
    assert (residual_turns(short, NAMES).table()["to_late"] > 0.99).all()
    rotating = [at._replace(sample=at.sample[: 2 * D_IN - 1]) for at in stream("all rotates")]
    few = residual_turns(rotating, NAMES)
    assert np.array_equal(few.to_late, few.rotating_to_late)  # too few tokens to tell a rotation
    with pytest.raises(ValueError, match="2 checkpoints"):
        residual_turns(checkpoints[:2], NAMES)
    with pytest.raises(ValueError, match="for 3 features"):
        residual_turns(checkpoints, range(3))


def drift_of(angles: np.ndarray, **rest) -> Drift:
    links = rotating(angles, **rest)
    return measure_drift(iter(links), links[-1])


def steady(per_link: float, d_sae: int = FEATURES) -> np.ndarray:
    return np.outer(np.arange(LINKS) * per_link, np.linspace(0.9, 1.1, d_sae))


FROZEN = {"frozen": drift_of(steady(0.02), lm_steps=[3000] * LINKS)}


def judged(angles: np.ndarray, turns: ResidualTurns) -> dict[str, bool]:
    drift = drift_of(angles)
    control = ControlDrift.of("frozen", "noise", FROZEN["frozen"])
    replicate = drift_of(phased_angles(FEATURES, seed=1))
    held = compare_with_controls(
        quantile_table(drift), [control, ControlDrift.of("seed", "replicate", replicate)]
    )
    formed = drift_after_formation(drift, np.full(FEATURES, 5), control.quantiles, turns)
    assert formed["residual_cosine"].notna().all()
    return verdicts(held, turns, formed).set_index("claim")["stands"].to_dict()


def test_claims_stand_where_directions_and_residuals_turn(turns) -> None:
    assert judged(steady(TURN), turns["directions turn"]) == {
        "widespread drift": True,
        "drift of the LM's making": True,
        "drift after convergence": True,
        "replicated": False,
        "formed features drift on": True,
    }
    # Quiet at the end, as the frozen chain is.
    quiet = judged(phased_angles(FEATURES), turns["directions turn"])
    assert quiet["replicated"]
    assert not quiet["drift after convergence"]
    # A chain that does what the frozen one does shows nothing.
    assert not any(judged(steady(0.02), turns["directions turn"]).values())


@pytest.mark.parametrize("kind", STILL)
def test_no_verdict_stands_on_a_stream_whose_directions_stay(kind: str, turns) -> None:
    """SAEs turn on such streams, and more than on a frozen LM: their rows alone say 'drift'."""
    assert not any(judged(steady(TURN), turns[kind]).values())


def test_rates_do_not_depend_on_how_far_apart_checkpoints_are(turns) -> None:
    steps = np.array(LM_STEPS)
    speed = 1e-3
    drift = drift_of(np.outer(speed * steps, np.linspace(0.9, 1.1, 41)))
    table = rate_table(drift, {}, learning_rates={8: 0.5, 3000: 10.0})
    assert table["control"].unique() == ["none"] and len(table) == LINKS - 1
    late = table[table["lm_step"] > 16]  # cosines are kept in float32
    assert late["per_lm_step"].to_numpy() == pytest.approx(speed, rel=1e-2)
    assert table["net_angle"].to_numpy() == pytest.approx(speed * np.diff(steps), abs=2e-4)
    assert late["straightness"].to_numpy() == pytest.approx(1, rel=1e-2)
    assert np.isnan(table["straightness"][0]) and table["control_angle"].isna().all()
    rates = table["per_learning_rate"]
    assert rates.iloc[-1] == pytest.approx(speed * 1000 / 10, rel=1e-2)
    assert rates.notna().sum() == 2 and table["residual_angle"].isna().all()
    # The interval of the median holds the middle of the features, and not all of them.
    assert (late["per_lm_step_low"] < late["per_lm_step"]).all()
    assert (late["per_lm_step_high"] > late["per_lm_step"]).all()
    assert (late["per_lm_step_high"] < 1.09 * speed).all()


def test_a_control_is_taken_from_rates_as_independent_turns_are() -> None:
    table = rate_table(FROZEN["frozen"], FROZEN)
    assert (table["net_angle"] < 1e-6).all() and (table["net_low"] == 0).all()
    double = drift_of(steady(0.04))
    net = rate_table(double, FROZEN)["net_angle"]
    assert net.to_numpy() == pytest.approx((0.04**2 - 0.02**2) ** 0.5, rel=0.01)
    short = {"short": drift_of(steady(0.02)[:4], lm_steps=[1] * 4)}
    assert rate_table(double, short)["link"].tolist() == [1, 2, 3]


def test_straightness_tells_a_walk_from_an_arc() -> None:
    links = rotating(steady(0.1), d_in=256)
    row, walk = links[0].W_dec, []
    for number, link in enumerate(links):
        row = normalize(row, dim=1) + 0.2 * normalize(normal(FEATURES, 256, seed=number), dim=1)
        walk.append(link._replace(W_dec=row))
    drift = measure_drift(iter(walk), walk[-1])
    assert rate_table(drift, {})["straightness"][1:].to_numpy() == pytest.approx(0.5**0.5, abs=0.05)


def test_figure_of_rates(monkeypatch: pytest.MonkeyPatch, turns) -> None:
    figures = kept_figures(monkeypatch)
    table = rate_table(drift_of(steady(TURN)), FROZEN, turns["directions turn"])
    setting = Setting("planted", phases={"quiet": (0, 16), "late": (16, 3000)})
    drift_rates_figure(table, setting, Path("rates"))
    angles, per_step, per_rate, straight = figures[0].axes
    shown = [tuple(part.get_ydata()) for part in angles.lines]
    for column in ("angle", "control_angle", "residual_angle"):
        assert tuple(table[column]) in shown
    assert tuple(per_step.lines[0].get_ydata()) == tuple(table["per_lm_step"])
    assert "not measured" in [text.get_text() for text in per_rate.texts]  # no rate is known
    assert straight.lines[0].get_ydata()[1:] == pytest.approx(1, abs=1e-3)
