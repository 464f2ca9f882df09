"""What features do along a chain: tables, columns of the life store, and the four moments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from saetrack.analysis.contexts.liveness import live_features
from saetrack.analysis.controls.measured import Measured, MeasuredLink, quantile, quantile_table
from saetrack.analysis.drift.controls import noise_control
from saetrack.analysis.drift.measure import ALL
from saetrack.analysis.effects.ablation import calibration
from saetrack.analysis.effects.moments import (
    NEVER,
    first_for_good,
    moment_counts,
    moment_table,
    pairwise_order,
    which_first,
)

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from saetrack.analysis.drift.controls import ControlDrift
    from saetrack.analysis.drift.measure import Drift
    from saetrack.analysis.effects.attribution import FeatureEffects
    from saetrack.analysis.pipeline.checkpoint_result import CheckpointResult

    Links = dict[str, Int[np.ndarray, " features"]]

CONTROL = "random directions with the same firing and norm"
# The names that the life store has for some quantities.
COLUMN_OF = {"effect": "effect", "effect_over_random": "size_over_random"}


def measured_effects(results: Sequence[CheckpointResult]) -> list[MeasuredLink]:
    """Each link's effects beside those of random directions; empty where they are left out."""
    return [
        MeasuredLink(result.lm_step, result.checkpoint_index, _quantities(result.effects))
        for result in results
        if result.effects is not None
    ]


def _quantities(of: FeatureEffects) -> dict[str, Measured]:
    return {
        "effect": Measured(of.effect, of.random_effect, CONTROL),
        "size": Measured(of.abs_effect, of.random_abs_effect, CONTROL),
        "size_over_random": Measured(
            _ratio(of.abs_effect, of.control), _ratio(of.random_abs_effect, of.control), CONTROL
        ),
        "effect_per_token": Measured(of.per_token, np.zeros(0), ""),
    }


def _ratio(
    effects: Float[np.ndarray, " d_sae"], control: Float[np.ndarray, " d_sae"]
) -> Float[np.ndarray, " d_sae"]:
    """NaN where the loss does not read what any direction adds, as behind a row's last token."""
    ratio = np.full(len(effects), np.nan)
    np.divide(effects, control, out=ratio, where=control > 0)
    return ratio


def effect_tables(
    measured: list[MeasuredLink],
    results: Sequence[CheckpointResult],
    classes: pd.Series[str],
    seed: int,
) -> dict[str, pd.DataFrame]:
    """Over all features that are live at the end, of single ones, and against true ablation.

    Returns:
        `effects`, `effects_of_features`, `ablations`, `calibration`, and `core_metrics` of each
        link's SAE (`saetrack.analysis.effects.core_metrics`); nothing without effects.
    """
    if not measured:
        return {}
    live, followed = live_features(results[-1].status), results[-1].statistics["feature"].to_numpy()
    single, ablated, calibrated, core = [], [], [], []
    for link, result in zip(measured, results, strict=True):
        at = {"lm_step": link.lm_step, "checkpoint_index": link.checkpoint_index}
        numbers = {name: of.of_features[followed] for name, of in link.quantities.items()}
        effects = result.effects
        assert effects is not None
        bound = effects.control_q95[followed]
        single.append(
            pd.DataFrame(
                {**at, "feature": followed, **numbers, "size_of_random_q95": bound}
                | {"fires": effects.fires[followed]}
            )
        )
        ablated.append(result.ablations.assign(**at))
        core.append({**at, **_beside_a_guess(result.core)})
        calibrated.append({**at, **calibration(result.ablations, seed)})
    return {
        "effects": quantile_table(measured, live, classes),
        "effects_of_features": pd.concat(single, ignore_index=True),
        "ablations": pd.concat(ablated, ignore_index=True),
        "calibration": pd.DataFrame(calibrated),
        "core_metrics": pd.DataFrame(core),
    }


def _beside_a_guess(core: dict[str, float]) -> dict[str, float | bool]:
    """With the nats that the SAE loses, and whether zeros are worse than a uniform guess."""
    if "ce" not in core:
        return {**core}
    is_worse = core["ce_zero"] > core["ce_uniform"]
    return {**core, "nats_lost": core["ce_sae"] - core["ce"], "zero_worse_than_guess": is_worse}


def effect_columns(measured: list[MeasuredLink], link: int, d_sae: int) -> dict[str, np.ndarray]:
    """The columns of a link in the life store."""
    if not measured:
        return {name: np.full(d_sae, np.nan, np.float32) for name in COLUMN_OF}
    quantities = measured[link].quantities
    return {
        name: quantities[quantity].of_features.astype(np.float32)
        for name, quantity in COLUMN_OF.items()
    }


def moment_tables(
    results: Sequence[CheckpointResult],
    formed: Int[np.ndarray, " d_sae"],
    drift: Drift,
    controls: Sequence[ControlDrift],
    seed: int,
) -> dict[str, pd.DataFrame]:
    """When the features that are live at the end are formed, converged, predictive and causal.

    Args:
        results: of all links.
        formed: the link from which on each feature is formed, -1 for never.
        drift: of the chain.
        controls: the first noise control among them bounds convergence; without, it has no moment.
        seed: of bootstraps.

    Returns:
        `moments` and `moment_counts`, of features and of what stands for them as a control;
        `moment_first` and `moment_order`.
    """
    live = live_features(results[-1].status)
    found: Links = {"forms": np.where(formed < len(results) - 1, formed, NEVER)}
    bound = _bound_of_convergence(controls)
    if bound is not None:
        found["converges"] = first_for_good((drift.cosine_to_final > bound) & ~drift.excluded)
    by_chance: Links = {}
    _add_predicts(found, by_chance, results)
    _add_causes(found, by_chance, results)
    lm_steps = [result.lm_step for result in results]
    moments = moment_table(_of(found, live), live, lm_steps)
    control = moment_table(_of(by_chance, live), live, lm_steps, "control") if by_chance else None
    both = pd.concat([moments, control], ignore_index=True)
    return {
        "moments": both,
        "moment_counts": moment_counts(both, seed),
        "moment_first": which_first(moments, seed),
        "moment_order": pairwise_order(moments, seed),
    }


def _of(found: Links, features: Int[np.ndarray, " features"]) -> Links:
    return {moment: links[features] for moment, links in found.items()}


def _bound_of_convergence(controls: Sequence[ControlDrift]) -> float | None:
    """The 95 % quantile of the first noise control's cosine from its first to its final link."""
    control = noise_control(controls)
    if control is None:
        return None
    noise = control.quantiles
    rows = noise[(noise["quantity"] == "cosine_to_final") & (noise["feature_class"] == ALL)]
    return float(rows.loc[rows["link"] == 0, "q95"].iloc[0])


def _add_predicts(found: Links, by_chance: Links, results: Sequence[CheckpointResult]) -> None:
    logits = [result.logits for result in results if result.logits is not None]
    if not logits:
        return
    bounds = np.array([quantile(of.shuffled_agreement, 0.95) for of in logits])[:, None]
    found["predicts"] = first_for_good(np.stack([of.agreement for of in logits]) > bounds)
    shuffled = np.stack([of.shuffled_agreement for of in logits])
    by_chance["predicts"] = first_for_good(shuffled > bounds)


def _add_causes(found: Links, by_chance: Links, results: Sequence[CheckpointResult]) -> None:
    effects = [result.effects for result in results if result.effects is not None]
    if not effects:
        return
    silent = np.stack([of.fires == 0 for of in effects])
    found["causes"] = first_for_good(
        np.stack([of.abs_effect > of.control_q95 for of in effects]), silent
    )
    by_chance["causes"] = first_for_good(
        np.stack([of.random_abs_effect > of.random_q95 for of in effects]), silent
    )
