"""Tables of how far feature directions travel along a chain, beside controls (section 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from saetrack.analysis.drift.controls import (
    ControlDrift,
    compare_with_controls,
    drift_after_formation,
    noise_control,
)
from saetrack.analysis.drift.measure import (
    Drift,
    feature_table,
    histogram_table,
    measure_drift,
    quantile_table,
)
from saetrack.analysis.drift.rates import rate_table
from saetrack.analysis.drift.residual_turns import (
    ContextResiduals,
    ResidualTurns,
    residual_turns,
)
from saetrack.analysis.drift.trajectories import choose_features, collect_rows, trajectory_table
from saetrack.analysis.drift.verdicts import verdicts
from saetrack.analysis.pipeline.learning_rates import learning_rate_sums

if TYPE_CHECKING:
    from jaxtyping import Int

    from saetrack.analysis.drift.controls import Role
    from saetrack.analysis.pipeline.checkpoint_result import CheckpointResult
    from saetrack.analysis.pipeline.meaning_tables import Meaning
    from saetrack.analysis.pipeline.registered_chain import RegisteredChain

SHOWN_TRAJECTORIES = 6


def chain_drift(registered: RegisteredChain) -> Drift:
    """How far a chain's directions travel; the decoder rows of a few links are in memory."""
    final = registered.decoder(registered.links[-1])
    before = (registered.decoder(link) for link in registered.links[:-1])
    return measure_drift(chain(before, [final]), final)


def turns_of(
    results: Sequence[CheckpointResult], sampled: Int[np.ndarray, " sampled"]
) -> ResidualTurns:
    """How far the residuals of the sampled features' contexts turn."""
    checkpoints = [
        ContextResiduals(
            result.lm_step, result.checkpoint_index, result.sample, result.sampled_features_x
        )
        for result in results
    ]
    return residual_turns(checkpoints, sampled)


def drift_tables(
    registered: RegisteredChain,
    drift: Drift,
    controls: Mapping[str, tuple[Role, Drift]],
    meaning: Meaning,
    turns: ResidualTurns,
    seed: int,
) -> tuple[dict[str, pd.DataFrame], list[ControlDrift]]:
    """How far directions travel, and how fast, beside what training alone does (section 5)."""
    of_chain = quantile_table(drift, list(meaning.labels.sort_index()))
    bands = [
        ControlDrift.of(name, role, of_control) for name, (role, of_control) in controls.items()
    ]
    histograms = [histogram_table(drift).assign(chain="chain")]
    noise = {name: of for name, (role, of) in controls.items() if role == "noise"}
    histograms += [histogram_table(of).assign(chain=name) for name, of in noise.items()]
    formed = formation_links(meaning, drift)
    tables = {
        "drift": of_chain,
        "drift_histograms": pd.concat(histograms, ignore_index=True),
        "own_index": pd.concat(
            [
                drift.own_index.table(),
                *(of.own_index.table(name) for name, of in noise.items()),
            ],
            ignore_index=True,
        ),
        "residual_turns": turns.table(),
        "drift_rates": rate_table(drift, noise, turns, learning_rate_sums(registered)),
        **_beside_controls(of_chain, bands, drift, formed, turns),
    }
    shown = choose_features(drift.always_alive, SHOWN_TRAJECTORIES, seed)
    tables["drift_of_features"] = feature_table(drift, list(shown))
    rows = collect_rows((registered.decoder(link) for link in registered.links), shown)
    tables["trajectories"] = trajectory_table(
        rows, shown, drift.lm_steps, drift.checkpoint_indices, formed[shown]
    )
    return tables, bands


def _beside_controls(
    of_chain: pd.DataFrame,
    bands: list[ControlDrift],
    drift: Drift,
    formed: np.ndarray,
    turns: ResidualTurns,
) -> dict[str, pd.DataFrame]:
    if not bands:
        return {}
    control = noise_control(bands)
    noise = None if control is None else control.quantiles
    held = compare_with_controls(of_chain, bands)
    after = drift_after_formation(drift, formed, noise, turns)
    return {
        "drift_beside_controls": held,
        "drift_after_formation": after,
        "drift_verdicts": verdicts(held, turns, after if noise is not None else None),
    }


def formation_links(meaning: Meaning, drift: Drift) -> np.ndarray:
    """The link, counted along the chain, from which on each feature is formed; -1 for never."""
    number_of = {index: number for number, index in enumerate(drift.checkpoint_indices)}
    formed = meaning.tables["patterns"].sort_values("feature")["formed_checkpoint_index"]
    return np.asarray(formed.map(number_of).fillna(-1), np.int64)
