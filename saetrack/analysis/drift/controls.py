"""Which claims about drift remain beside what SAE training alone does (section 5, appendix I.2).

Two kinds of control chain. A **noise** control cannot show features of a training LM: a chain of
equally many links on one frozen checkpoint, or over a randomly initialised LM that stays random.
What it drifts is what warm starts and further training do by themselves. A **replicate** should
show the same as the chain: a second seed, or the reverse chain (figure 13).

A control is laid beside the chain link by link: by links since the first one, or, for the cosine to
the final direction, by links until the final one. A shorter control covers the links that it can.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from saetrack.analysis.drift.measure import ALL, Drift, quantile_table
from saetrack.analysis.drift.residual_turns import ResidualTurns

if TYPE_CHECKING:
    from jaxtyping import Float, Int

Role = Literal["noise", "replicate"]

STEPS = ["link", "lm_step", "checkpoint_index"]


@dataclass(frozen=True)
class ControlDrift:
    """The drift of a control chain, with which that of the analysed chain is compared.

    Attributes:
        name: such as `frozen_final`.
        role: `noise` or `replicate`, see the top of this file.
        quantiles: as `saetrack.analysis.drift.measure.quantile_table` gives it.
        density_band: 5 and 95 % of the densities of features that fire at each link, (links, 2);
            NaN where none does.
    """

    name: str
    role: Role
    quantiles: pd.DataFrame
    density_band: Float[np.ndarray, "links 2"]

    @classmethod
    def of(cls, name: str, role: Role, drift: Drift) -> ControlDrift:
        """Of a control chain, by its own drift."""
        return cls(name, role, quantile_table(drift, chain=name), _density_band(drift))


def noise_control(controls: Iterable[ControlDrift]) -> ControlDrift | None:
    """The first noise control among some; None if there is none."""
    return next((control for control in controls if control.role == "noise"), None)


def _density_band(drift: Drift) -> Float[np.ndarray, "links 2"]:
    """5 and 95 % of the densities of the features that fire at each link; NaN where none does."""
    firing = [density[density > 0] for density in drift.feature_density]
    return np.array(
        [np.quantile(some, (0.05, 0.95)) if len(some) else (np.nan, np.nan) for some in firing]
    )


def align(claim: pd.DataFrame, control: pd.DataFrame) -> pd.DataFrame:
    """A control's rows, with the link, LM step and index of the chain that each corresponds to.

    Args:
        claim: of the chain, as `quantile_table` gives it.
        control: of the control chain, likewise; its rows over all features are taken.

    Returns:
        The columns of `quantile_table`, one row per quantity and link that both have.
    """
    of_chain = _keyed(claim)[["quantity", "key", *STEPS]]
    return of_chain.merge(_keyed(control).drop(columns=STEPS), on=["quantity", "key"]).drop(
        columns="key"
    )


def _keyed(table: pd.DataFrame) -> pd.DataFrame:
    """The rows over all features, with a `key`: the same in two chains at links that correspond."""
    table = table[table["feature_class"] == ALL]
    to_final = table["quantity"] == "cosine_to_final"
    return table.assign(key=table["link"].where(~to_final, table["link"].max() - table["link"]))


def compare_with_controls(claim: pd.DataFrame, controls: Sequence[ControlDrift]) -> pd.DataFrame:
    """The chain beside each control, link by link.

    The drift of a quantity is -log of its median cosine (infinite from 0 on), or its median path
    length. Cosines of independent displacements multiply, so that their logs add: `noise_share` is
    the part of the chain's drift that training alone would have made.

    Returns:
        One row per control, quantity and link, with the columns

        - `control`, `role`, `quantity`, `link`, `lm_step`, `checkpoint_index`;
        - `claim_X` and `control_X` with X of `q05`, `q25`, `q50`, `q75`, `q95`;
        - `claim_drift`, `control_drift`; `noise_share`: the second over the first, NaN for
          replicates and where the chain has not drifted;
        - `difference`: the chain's median less the control's; `outside`: the chain's median lies
          outside the control's 5 to 95 % band.
    """
    held = []
    for control in controls:
        both = (
            _keyed(claim)
            .drop(columns="key")
            .merge(
                align(claim, control.quantiles).drop(columns=["lm_step", "checkpoint_index"]),
                on=["quantity", "link"],
                suffixes=("_claim", "_control"),
            )
        )
        table = both[["quantity", *STEPS]].copy()
        table.insert(0, "role", control.role)
        table.insert(0, "control", control.name)
        for side in ("claim", "control"):
            for name in ("q05", "q25", "q50", "q75", "q95"):
                table[f"{side}_{name}"] = both[f"{name}_{side}"]
        for side in ("claim", "control"):
            median = table[f"{side}_q50"]
            with np.errstate(divide="ignore"):  # from a right angle on it is infinite
                lost = -np.log(median.clip(0, 1))
            table[f"{side}_drift"] = median.where(table["quantity"] == "path_length", lost)
        share = table["control_drift"] / table["claim_drift"].where(table["claim_drift"] > 1e-6)
        table["noise_share"] = share if control.role == "noise" else np.nan
        table["difference"] = table["claim_q50"] - table["control_q50"]
        table["outside"] = (table["claim_q50"] < table["control_q05"]) | (
            table["claim_q50"] > table["control_q95"]
        )
        held.append(table)
    return pd.concat(held, ignore_index=True)


def drift_after_formation(
    drift: Drift,
    formation_link: Int[np.ndarray, " d_sae"],
    control: pd.DataFrame | None = None,
    turns: ResidualTurns | None = None,
) -> pd.DataFrame:
    """How far features still turn once their meaning is stable (Definition 5.2, Conclusion 4).

    Args:
        drift: of the chain.
        formation_link: the link from which on each feature is formed, negative for never, (d_sae,).
        control: a noise control, as `quantile_table` gives it.
        turns: of the residuals at the contexts of some features.

    Returns:
        One row per feature that is alive at its formation and at the end and forms before the last
        link, with the columns

        - `feature`, `formation_link`, `lm_step` (of it), `links_left`;
        - `cosine_at_formation`: to the final direction; `path_after`: radians from there on;
        - `residual_cosine`: of its contexts' mean residual at formation, with that at the end (see
          `saetrack.analysis.drift.residual_turns`); NaN if it is not followed;
        - `control_q05`, `control_q50`: of the control's cosine to its final direction, as many
          links before its end; `beyond_noise`: the feature's cosine is below the former. Missing
          without a control that reaches so far.
    """
    formation_link = np.asarray(formation_link)
    features = np.flatnonzero((formation_link >= 0) & (formation_link < len(drift.lm_steps) - 1))
    features = features[~drift.excluded[formation_link[features], features]]
    formed = formation_link[features]
    table = pd.DataFrame(
        {
            "feature": features,
            "formation_link": formed,
            "lm_step": drift.lm_steps[formed],
            "links_left": len(drift.lm_steps) - 1 - formed,
            "cosine_at_formation": drift.cosine_to_final[formed, features],
            "residual_cosine": _residual_cosines(turns, formed, features),
            "path_after": drift.path_length[-1, features] - drift.path_length[formed, features],
        }
    )
    if control is None:
        unknown = pd.Series(pd.NA, index=table.index, dtype="boolean")
        return table.assign(control_q05=np.nan, control_q50=np.nan, beyond_noise=unknown)
    noise = _keyed(control)
    noise = noise[noise["quantity"] == "cosine_to_final"].set_index("key")
    for name in ("q05", "q50"):
        table[f"control_{name}"] = table["links_left"].map(noise[name])
    beyond = (table["cosine_at_formation"] < table["control_q05"]).astype("boolean")
    return table.assign(beyond_noise=beyond.mask(table["control_q05"].isna()))


def _residual_cosines(
    turns: ResidualTurns | None, links: Int[np.ndarray, " n"], features: Int[np.ndarray, " n"]
) -> np.ndarray:
    """Of features at links; NaN for those that are not followed."""
    if turns is None:
        return np.full(len(features), np.nan)
    number_of = {int(feature): number for number, feature in enumerate(turns.features)}
    numbers = np.array([number_of.get(int(feature), -1) for feature in features], int)
    return np.where(numbers >= 0, turns.to_late[links, numbers], np.nan)
