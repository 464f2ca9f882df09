"""Matching, comparison and their figures, on data whose answer is planted."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import beta
from torch import Tensor

from saetrack.analysis.comparison.token_ratios import (
    METRICS,
    compare,
    comparison_metrics,
    crossing,
    summarise,
)
from saetrack.analysis.figures.comparison import curves_figure, matching_figure, speed_figure
from saetrack.analysis.figures.comparison_text import comparison_report, matching_report
from saetrack.analysis.matching.decoder_matching import (
    Pairing,
    cosine_table,
    match_features,
    match_random,
    matching_table,
)
from saetrack.analysis.matching.matching import Matching
from saetrack.registry.received import Decoder
from saetrack.sae.model import SAE, new_sae

D_IN, D_SAE = 32, 60
ALIVE = torch.full((D_SAE,), 0.1)


def some_sae(seed: int = 0, d_sae: int = D_SAE) -> SAE:
    return new_sae(D_IN, d_sae, torch.zeros(D_IN), seed)


def shuffled(sae: SAE, noise: float, seed: int = 0) -> tuple[SAE, Tensor]:
    """A noisy copy whose feature `places[i]` is the original's feature `i`."""
    generator = torch.Generator().manual_seed(100 + seed)
    places = torch.randperm(sae.d_sae, generator=generator)
    copy = SAE(sae.d_in, sae.d_sae)
    with torch.no_grad():
        copy.W_dec[places] = sae.W_dec + noise * torch.randn(sae.W_dec.shape, generator=generator)
    return copy, places


def matched(left: SAE, right: SAE, left_density: Tensor, right_density: Tensor) -> Matching:
    return match_features(Decoder(left.W_dec, left_density), Decoder(right.W_dec, right_density))


def test_a_permuted_noisy_dictionary_is_matched_back_exactly() -> None:
    sae = some_sae()
    copy, places = shuffled(sae, noise=0.05)
    matching = matched(sae, copy, ALIVE, ALIVE)
    assert matching.pairs["left"].tolist() == list(range(D_SAE))
    assert matching.pairs["right"].tolist() == places.tolist()
    planted = torch.cosine_similarity(sae.W_dec, copy.W_dec[places], dim=1).detach()
    assert matching.pairs["score"].to_numpy() == pytest.approx(planted.numpy(), abs=1e-6)
    # Noise of 0.05 in each of 32 dimensions: a cosine of 1 / sqrt(1 + 32 * 0.05**2).
    assert matching.scalars()["median_cosine"] == pytest.approx(0.962, abs=0.005)
    assert matching.scalars()["share_above_0.9"] == 1


def test_dead_features_are_left_out_and_counted() -> None:
    sae = some_sae()
    copy, places = shuffled(sae, noise=0.05)
    left_density, right_density = ALIVE.clone(), ALIVE.clone()
    left_density[:5] = 0
    right_density[places[:9]] = 0  # the partners of the five, and of four more
    matching = matched(sae, copy, left_density, right_density)
    found = matching.scalars()
    assert (found["left_live"], found["left_dead"]) == (D_SAE - 5, 5)
    assert (found["right_live"], found["right_dead"]) == (D_SAE - 9, 9)
    assert matching.pairs["left"].tolist() == list(range(9, D_SAE))
    assert matching.pairs["right"].tolist() == places[9:].tolist()
    nothing = matched(sae, copy, torch.zeros(D_SAE), ALIVE).scalars()
    assert nothing["pairs"] == 0
    assert np.isnan(nothing["median_cosine"]) and np.isnan(nothing["share_above_0.7"])


def test_the_assignment_is_the_best_of_all() -> None:
    for seed in range(5):
        left, right = some_sae(seed, d_sae=6), some_sae(seed + 50, d_sae=6)
        matching = matched(left, right, torch.ones(6), torch.ones(6))
        cosines = (left.W_dec @ right.W_dec.T).detach().numpy()
        best = max(permutations(range(6)), key=lambda order: cosines[range(6), order].sum())
        assert tuple(matching.pairs["right"]) == best


def test_shares_are_of_the_matched_pairs() -> None:
    left, right = SAE(4, 3), SAE(4, 4)
    with torch.no_grad():
        left.W_dec.copy_(3 * torch.eye(4)[:3])  # not normed: cosines all the same
        right.W_dec.copy_(torch.eye(4))
        right.W_dec[1, 3] = 3 / 4  # cosine 0.8
        right.W_dec[2, 3] = 4 / 3  # cosine 0.6
    found = matched(left, right, torch.ones(3), torch.ones(4))
    assert found.pairs["right"].tolist() == [0, 1, 2]
    assert found.pairs["score"].tolist() == pytest.approx([1, 0.8, 0.6])
    assert found.scalars()["share_above_0.7"] == pytest.approx(2 / 3)
    assert found.scalars()["share_above_0.9"] == pytest.approx(1 / 3)


def test_random_directions_match_at_the_level_of_chance() -> None:
    sae = some_sae(d_sae=500)
    density = torch.ones(500)
    matching = match_random(Decoder(sae.W_dec, density), seed=0)
    # Cosines of random directions are a Beta stretched to [-1, 1].
    half = (D_IN - 1) / 2
    level = 2 * beta.isf(1 / 500, half, half) - 1
    assert matching.scalars()["median_cosine"] == pytest.approx(level, abs=0.02)
    again, other = (match_random(Decoder(sae.W_dec, density), seed=seed) for seed in (0, 1))
    assert again.pairs.equals(matching.pairs) and not other.pairs.equals(matching.pairs)


def test_unlike_saes_are_refused() -> None:
    with pytest.raises(ValueError, match="not the same residual stream"):
        matched(some_sae(), SAE(8, D_SAE), ALIVE, ALIVE)
    with pytest.raises(ValueError, match="3 densities for d_sae=60 features"):
        matched(some_sae(), some_sae(), torch.ones(3), ALIVE)


def curve(tokens: list[float], quality: list[float], **which: object) -> pd.DataFrame:
    """One SAE's evaluations, 1,000 tokens a second."""
    rows = pd.DataFrame({"tokens": tokens, "train_s": np.array(tokens) / 1000, **which})
    others = dict.fromkeys(METRICS, 0.5)
    return rows.assign(**others).assign(
        explained_variance_at_l0=quality, loss=1.1 - np.array(quality), l0=20.0, mse=0.1
    )


def test_crossings_are_where_they_were_planted() -> None:
    rising = curve([0, 100, 400, 1600], [0.0, 0.4, 0.6, 0.8])
    assert crossing(rising, 0.6) == pytest.approx((400, 0.4))
    assert crossing(rising, 0.7) == pytest.approx((800, 0.8))  # half way in log tokens
    assert crossing(rising, 0.2) == pytest.approx((50, 0.05))  # half way in tokens
    assert crossing(rising, 0.0) == (0, 0)
    assert crossing(rising, -1.0) == (0, 0)
    assert np.isnan(crossing(rising, 0.81)).all()
    assert crossing(rising[::-1], 0.7).tokens == pytest.approx(800)
    falling_back = curve([0, 100, 400, 1600], [0.0, 0.6, 0.5, 0.7])
    assert crossing(falling_back, 0.6).tokens == pytest.approx(100)


FRACTIONS = np.array([0, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1])
CONVENTIONAL, LINK = 64_000, 16_000


def power_law(tokens: np.ndarray, head_start: float) -> np.ndarray:
    """Quality of an SAE that starts as if trained on `head_start` times its tokens."""
    return np.where(tokens > 0, 0.1 * np.log(np.maximum(tokens, 1) * head_start / 100), -1)


def planted(speeds: dict[tuple[int, int], float]) -> pd.DataFrame:
    """Links `speeds[lm_step, seed]` times as fast; step 0 is the conventional SAE itself."""
    rows = []
    for (lm_step, seed), speed in speeds.items():
        which = {"lm_step": lm_step, "checkpoint_index": lm_step // 100, "seed": seed}
        budget = CONVENTIONAL if lm_step == 0 else LINK
        for kind, most, fast in (("link", budget, speed), ("conventional", CONVENTIONAL, 1.0)):
            tokens = FRACTIONS * most
            rows.append(curve(list(tokens), list(power_law(tokens, fast)), kind=kind, **which))
    return pd.concat(rows, ignore_index=True)


SPEEDS = {
    **{(0, seed): 1.0 for seed in range(3)},
    (300, 0): 8.0,  # needs 1/8 of the conventional budget: it has 1/4
    (300, 1): 25.0,
    (300, 2): 2.0,  # would need 1/2: never gets there
    (500, 0): 16.0,
    (500, 1): 5.0,
    (500, 2): 10.0,
}


def test_ratios_are_those_that_were_planted() -> None:
    pairs = compare(planted(SPEEDS)).set_index(["lm_step", "seed"])
    assert list(pairs.index) == sorted(SPEEDS)
    for (lm_step, seed), speed in SPEEDS.items():
        pair = pairs.loc[lm_step, seed]
        if lm_step == 0:
            assert pair["own_yardstick"]
            compared = pair.filter(regex="ratio|needed|gap|cold")
            assert len(compared) == 14 and compared.isna().all()
            continue
        assert not pair["own_yardstick"]
        assert pair["budget_ratio"] == 0.25
        assert pair["equal_quality_token_ratio"] == pytest.approx(1 / speed)
        assert pair["equal_quality_train_s_ratio"] == pytest.approx(1 / speed)
        assert pair["gap_to_cold"] == pytest.approx(0.1 * np.log(speed))
        assert pair["gap_to_conventional"] == pytest.approx(0.1 * np.log(speed / 4))
        reaches, reached = pair["token_ratio"], pair["reverse_token_ratio"]
        if speed > 4:
            assert reaches == pytest.approx(1 / speed) and np.isnan(reached)
            assert pair["link_tokens_needed"] == pytest.approx(CONVENTIONAL / speed)
            assert pair["link_train_s_needed"] == pytest.approx(CONVENTIONAL / speed / 1000)
        else:
            assert np.isnan(reaches) and reached == pytest.approx(1 / speed)
            assert pair["conventional_tokens_needed"] == pytest.approx(LINK * speed)


def test_the_summary_gives_the_spread_over_seeds() -> None:
    summary = summarise(compare(planted(SPEEDS)))
    assert list(summary["lm_step"].fillna(-1)) == [0, 300, 500, -1]
    first, middle, final, overall = (row for _, row in summary.iterrows())
    assert (first["seeds"], first["pairs"], first["link_never"]) == (3, 0, 0)
    assert np.isnan(first["equal_quality_token_ratio_mean"])
    assert first["link_explained_variance_at_l0_mean"] == pytest.approx(0.1 * np.log(640))
    assert (middle["link_never"], middle["conventional_never"]) == (1, 2)
    assert middle["within_paper_ratio"] == 1  # 1/25
    ratio = [middle[f"equal_quality_token_ratio_{name}"] for name in ("mean", "min", "max")]
    assert ratio == pytest.approx([(1 / 8 + 1 / 25 + 1 / 2) / 3, 1 / 25, 1 / 2])
    assert middle["token_ratio_mean"] == pytest.approx((1 / 8 + 1 / 25) / 2)
    assert final["link_never"] == 0
    # Over all: each seed's mean over its checkpoints first.
    of_seeds = [(1 / 8 + 1 / 16) / 2, (1 / 25 + 1 / 5) / 2, (1 / 2 + 1 / 10) / 2]
    ratio = [overall[f"equal_quality_token_ratio_{name}"] for name in ("mean", "min", "max")]
    assert ratio == pytest.approx([np.mean(of_seeds), min(of_seeds), max(of_seeds)])
    assert (overall["pairs"], overall["link_never"], overall["within_paper_ratio"]) == (6, 1, 1)
    found = comparison_metrics(summary)
    assert found["equal_quality_token_ratio_mean"] == ratio[0]
    assert all(np.isfinite(value) for value in found.values())
    assert comparison_metrics(summary.iloc[:1]) == {}


def test_a_warm_start_may_be_there_before_training() -> None:
    curves = planted({(300, 0): 8.0})
    start = (curves["kind"] == "link") & (curves["tokens"] == 0)
    curves.loc[start, "explained_variance_at_l0"] = 0.9
    pair = compare(curves).iloc[0]
    assert (pair["token_ratio"], pair["equal_quality_token_ratio"]) == (0, 0)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda curves: curves.drop(columns=["l0", "seed"]), "lack the columns seed, l0"),
        (lambda curves: pd.concat([curves, curves]), "two rows of one SAE"),
        (lambda curves: curves[curves["tokens"] > 0], "must begin at tokens=0"),
        (lambda curves: curves[curves["kind"] != "link"], r"no link beside .* \[\(300, 0\)\]"),
    ],
)
def test_curves_that_would_be_misread_are_refused(spoil, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(spoil(planted({(300, 0): 8.0})))


def draw_twice(draw, folder: Path) -> None:
    """Draw twice: not blank, and the same SVG each time."""
    for name in ("once", "again"):
        draw(folder / name)
    assert matplotlib.image.imread(folder / "once.png")[..., :3].std() > 0.05, "blank"
    svg = (folder / "once.svg").read_bytes()
    assert svg == (folder / "again.svg").read_bytes()


def test_figures_of_the_comparison(tmp_path: Path) -> None:
    curves = planted({(300, seed): SPEEDS[300, seed] for seed in range(2)})
    draw_twice(lambda path: curves_figure(curves, "curves", path), tmp_path)


def test_figure_of_the_speed(tmp_path: Path) -> None:
    draw_twice(lambda path: speed_figure(compare(planted(SPEEDS)), "speed", path), tmp_path)


def test_figure_and_report_of_the_matching(tmp_path: Path) -> None:
    sae = some_sae()
    copies = [shuffled(sae, noise, seed)[0] for seed, noise in enumerate((0.05, 0.1))]
    matchings = {
        Pairing(300, "link_conventional", "0"): matched(sae, copies[0], ALIVE, ALIVE),
        Pairing(300, "conventional_seeds", "0, 1"): matched(*copies, ALIVE, ALIVE),
        Pairing(300, "random_directions", "0"): match_random(Decoder(sae.W_dec, ALIVE), 0),
    }
    cosines, table = cosine_table(matchings), matching_table(matchings)
    assert len(cosines) == 3 * D_SAE and list(table["pairs"]) == [D_SAE] * 3
    draw_twice(lambda path: matching_figure(cosines, table, "matching", path), tmp_path)
    text = matching_report(table, "matching")
    assert "conventional_seeds" in text and "100.0%" in text


def test_the_report_states_the_ratio_beside_the_papers() -> None:
    text = comparison_report(summarise(compare(planted(SPEEDS))), "nano")
    assert "link / conventional: 0.171 (0.094–0.300, 3 seeds); the paper's: 0.05" in text
    assert "Of 6 links, 1 reach the conventional quality within the paper's ratio, 1 never" in text
    assert all(len(line) <= 100 for line in text.splitlines())
    small = summarise(compare(planted(SPEEDS)))
    measured = small.columns[small.columns.str.contains("loss_m|mse_m")]
    small[measured] *= 1.0013e-9
    text = comparison_report(small, "nano")
    assert "e-10 " in text and "…" not in text, "no exponent is cut off"
    assert all(len(line) <= 100 for line in text.splitlines())
    alone = planted({key: speed for key, speed in SPEEDS.items() if key[0] == 0})
    assert "nothing to compare" in comparison_report(summarise(compare(alone)), "nano")
