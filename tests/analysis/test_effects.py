"""What features do, against toy LMs whose ablations are known exactly."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.nn.functional import kl_div

from saetrack.analysis.effects import attribution, core_metrics
from saetrack.analysis.effects.ablation import (
    AblationSample,
    calibration,
    kl_from,
    taken_out,
)
from saetrack.analysis.effects.attribution import (
    DIRECTIONS,
    Attribution,
    FeatureEffects,
    strongest,
    way_points,
)
from saetrack.analysis.effects.core_metrics import CoreMetrics, largest_cosines
from saetrack.sae.kernels.sparse import select
from saetrack.sae.model import SAE, new_sae

D_IN, D_SAE, ROWS, CONTEXT = 24, 40, 6, 10
TOKENS = ROWS * CONTEXT


def planted() -> tuple[SAE, Tensor, Tensor]:
    """An SAE, activations, and the gradient of a loss that is linear in them."""
    sae = new_sae(D_IN, D_SAE, torch.zeros(D_IN), seed=0)
    with torch.no_grad():
        sae.b_enc[3] = -100  # never fires
        sae.W_dec.mul_(torch.linspace(0.5, 2, D_SAE)[:, None])
    x, gradient = torch.randn(2, TOKENS, D_IN, generator=torch.Generator().manual_seed(0))
    return sae, x, gradient


def attributed(batches: int = 1) -> FeatureEffects:
    sae, x, gradient = planted()
    found = Attribution(sae, seed=0)
    for part, of_part in zip(x.chunk(batches), gradient.chunk(batches), strict=True):
        found.add(sae.active_pairs(part), of_part)
    return found.result()


def test_of_a_linear_loss_attribution_is_ablation() -> None:
    sae, x, gradient = planted()
    found, acts = attributed(), sae.encode(x).detach()
    for feature in (0, 7, 39):
        without = x - acts[:, [feature]] * sae.W_dec[feature].detach()
        rises = ((without - x) * gradient).sum(dim=1)
        fires = acts[:, feature] > 0
        assert found.fires[feature] == int(fires.sum())
        assert found.effect[feature] == pytest.approx(float(rises[fires].mean()), rel=1e-4)
        assert found.abs_effect[feature] == pytest.approx(
            float(rises[fires].abs().mean()), rel=1e-4
        )
        assert found.per_token[feature] == pytest.approx(float(rises.mean()), rel=1e-4)
    assert np.isnan(found.effect[3]) and found.fires[3] == 0 and found.per_token[3] == 0


def test_random_directions_have_the_features_firing_and_norm() -> None:
    sae, x, gradient = planted()
    found, acts = attributed(), sae.encode(x).detach()
    drawn = np.random.default_rng(0).normal(size=(DIRECTIONS, D_IN))
    directions = torch.from_numpy(drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).float()
    for feature in (1, 38):
        norm, fires = sae.W_dec[feature].detach().norm(), acts[:, feature] > 0
        rises = -acts[fires, feature, None] * norm * (gradient[fires] @ directions.T)
        sizes = rises.abs().mean(dim=0)
        assert found.control[feature] == pytest.approx(float(sizes.mean()), rel=1e-4)
        assert found.control_q95[feature] == pytest.approx(float(sizes.quantile(0.95)), rel=1e-4)
        own = feature % DIRECTIONS
        others = sizes[torch.arange(DIRECTIONS) != own]
        assert found.random_abs_effect[feature] == pytest.approx(float(sizes[own]), rel=1e-4)
        assert found.random_effect[feature] == pytest.approx(
            float(rises[:, own].mean()), rel=1e-3, abs=1e-6
        )
        assert found.random_q95[feature] == pytest.approx(float(others.quantile(0.95)), rel=1e-4)


def test_the_strongest_of_a_token_has_its_own_gradient() -> None:
    sae, x, gradient = planted()
    acts = sae.encode(x).detach()
    sizes = acts * sae.W_dec.detach().norm(dim=1)
    pairs = sae.active_pairs(x)
    chosen = strongest(pairs, sae.W_dec)
    expected = sizes.argmax(dim=1)
    assert pairs.features[chosen].tolist() == expected[pairs.tokens[chosen]].tolist()
    assert int(chosen.sum()) == TOKENS
    found = Attribution(sae, seed=0)
    effects = found.add(pairs, gradient, 3 * gradient)
    plain = Attribution(sae, seed=0)
    torch.testing.assert_close(effects, plain.add(pairs, gradient) * (1 + 2 * chosen))
    both, alone = found.result(), plain.result()
    assert both.effect[39] != pytest.approx(alone.effect[39])
    for name in ("abs_effect", "control_q95", "random_abs_effect"):
        np.testing.assert_array_equal(getattr(both, name), getattr(alone, name))


def test_points_are_the_middles_of_equal_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribution, "POINTS", 4)
    assert way_points() == [0.125, 0.375, 0.625, 0.875]


def test_effects_do_not_depend_on_batches() -> None:
    one, three = attributed(), attributed(batches=3)
    for name, values in vars(one).items():
        np.testing.assert_allclose(getattr(three, name), values, rtol=1e-4, atol=1e-6)


def test_a_direction_that_the_loss_reads_exceeds_random_ones() -> None:
    sae, x, gradient = planted()
    read = gradient / gradient.norm(dim=1, keepdim=True)
    same = read[0].expand_as(gradient)
    with torch.no_grad():
        sae.W_dec[5] = read[0]
    found = Attribution(sae, seed=0)
    found.add(sae.active_pairs(x), same.contiguous())
    effects = found.result()
    assert effects.abs_effect[5] > effects.control_q95[5]
    by_chance = effects.random_abs_effect > effects.random_q95
    assert 0.0 <= by_chance[effects.fires > 0].mean() < 0.2


def test_what_is_ablated_is_taken_out_where_it_fires_and_takes_part() -> None:
    sae, x, gradient = planted()
    kept = torch.arange(TOKENS) % CONTEXT > 1
    pairs = sae.active_pairs(x)
    pairs = select(sae, pairs, kept[pairs.tokens])
    effects = Attribution(sae, seed=0).add(pairs, gradient)
    sample = AblationSample([7, 3], rows=4)
    found = list(sample.of_batch(pairs, effects, CONTEXT))
    assert [(of.feature, of.row) for of in found] == [(7, row) for row in range(4)]
    assert not list(sample.of_batch(pairs, effects, CONTEXT)), "enough rows"
    minus = taken_out(found, sae.W_dec, CONTEXT)
    acts = sae.encode(x).detach()[:, 7].where(kept, 0.0).view(ROWS, CONTEXT)[:4]
    torch.testing.assert_close(minus, acts[..., None] * sae.W_dec[7].detach(), rtol=1e-4, atol=1e-5)
    rises = -(minus * gradient.view(ROWS, CONTEXT, D_IN)[:4]).sum(dim=(1, 2))
    by_attribution = torch.tensor([of.attribution for of in found])
    torch.testing.assert_close(by_attribution, rises, rtol=1e-4, atol=1e-4)
    for of, rise in zip(found, rises.tolist(), strict=True):
        sample.keep(of, rise, 0.5)
    table = sample.table()
    assert calibration(table, seed=0)["slope"] == pytest.approx(1, rel=1e-3)
    assert list(table["feature"]) == [7] * 4


def test_kl_is_torchs() -> None:
    both = torch.randn(2, 3, 4, 20, generator=torch.Generator().manual_seed(0))
    log_p, log_q = both.log_softmax(-1)
    expected = kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
    torch.testing.assert_close(kl_from(log_p, log_p.exp(), log_q), expected)


def test_calibration_says_how_far_off_attribution_is() -> None:
    generator = np.random.default_rng(0)
    attribution = generator.normal(size=200)
    table = pd.DataFrame(
        {
            "feature": np.repeat(np.arange(50), 4),
            "fires": 2,
            "attribution": attribution,
            "ablation": 1.5 * attribution + generator.normal(0, 0.1, 200),
            "kl": 0.4,
        }
    )
    found = calibration(table, seed=0)
    assert (found["features"], found["rows"]) == (50, 200)
    assert found["slope_low"] < found["slope"] < found["slope_high"]
    assert found["slope"] == pytest.approx(1.5, abs=0.05)
    assert found["slope_low"] > 1.4 and found["slope_high"] < 1.6
    assert found["pearson"] > 0.99 and found["median_kl"] == 0.2
    nothing = calibration(table[:2], seed=0)
    assert np.isnan(nothing["slope"]) and nothing["rows"] == 2


def test_core_metrics_are_those_of_plain_formulas() -> None:
    sae, x, _ = planted()
    kept = torch.rand(ROWS, CONTEXT, generator=torch.Generator().manual_seed(5)) > 0.3
    kl = {
        name: torch.rand(ROWS, CONTEXT, generator=torch.Generator().manual_seed(number))
        for number, name in enumerate(("sae", "zero"), 6)
    }
    losses = {
        name: torch.rand(ROWS, CONTEXT - 1, generator=torch.Generator().manual_seed(number))
        for number, name in enumerate(("clean", "sae", "zero"))
    }
    found = CoreMetrics()
    for rows in (slice(0, 2), slice(2, 6)):
        flat = x.view(ROWS, CONTEXT, D_IN)[rows][kept[rows]]
        acts = sae.encode(flat).detach()
        found.add_activations(flat, sae.decode(acts).detach(), acts[acts > 0])
        of_rows = [{name: of[rows] for name, of in numbers.items()} for numbers in (kl, losses)]
        found.add_losses(kept[rows], *of_rows)
    flat = x.view(ROWS, CONTEXT, D_IN)[kept].double()
    acts = sae.encode(flat.float()).detach().double()
    y = acts @ sae.W_dec.detach().double() + sae.b_dec.detach().double()
    mean_kl = {name: float(of[kept].mean()) for name, of in kl.items()}
    ce = {name: float(of[kept[:, :-1]].mean()) for name, of in losses.items()}
    expected = {
        "tokens": len(flat),
        "kl": mean_kl["sae"],
        "kl_zero": mean_kl["zero"],
        "kl_score": 1 - mean_kl["sae"] / mean_kl["zero"],
        "ce": ce["clean"],
        "ce_sae": ce["sae"],
        "ce_zero": ce["zero"],
        "ce_score": (ce["zero"] - ce["sae"]) / (ce["zero"] - ce["clean"]),
        "explained_variance": 1
        - float(((flat - y) ** 2).sum() / ((flat - flat.mean(0)) ** 2).sum()),
        "cosine": float(torch.cosine_similarity(flat, y, dim=1).mean()),
        "l2_ratio": float((y.norm(dim=1) / flat.norm(dim=1)).mean()),
        "l0": float((acts > 0).sum(1).double().mean()),
        "l1": float(acts.sum(1).mean()),
        "relative_reconstruction_bias": float((y**2).sum(1).mean() / (flat * y).sum(1).mean()),
    }
    per_token = []
    for rows in (slice(0, 2), slice(2, 6)):
        at = x.view(ROWS, CONTEXT, D_IN)[rows][kept[rows]].double()
        out = sae.decode(sae.encode(at.float())).detach().double()
        per_token.append(1 - ((at - out) ** 2).sum(1) / ((at - at.mean(0)) ** 2).sum(1))
    expected["explained_variance_per_token"] = float(torch.cat(per_token).mean())
    assert found.result() == pytest.approx(expected, rel=1e-4)
    assert CoreMetrics().result() == {}


def test_largest_cosines_leave_out_the_row_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    plain = torch.cosine_similarity(rows[:, None], rows, dim=2)
    plain.fill_diagonal_(-2)
    torch.testing.assert_close(largest_cosines(rows), plain.amax(1))
    monkeypatch.setattr(core_metrics, "BLOCK_NUMBERS", 90)
    torch.testing.assert_close(largest_cosines(rows), plain.amax(1))
    monkeypatch.setattr(core_metrics, "COMPARED", 3)
    torch.testing.assert_close(largest_cosines(rows), plain.amax(1)[[0, 14, 29]])
