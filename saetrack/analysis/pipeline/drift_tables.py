"""Tables of how far feature directions travel along a chain, beside controls (section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from saetrack.analysis.drift.controls import (
    ControlDrift,
    compare_with_controls,
    drift_after_formation,
)
from saetrack.analysis.drift.measure import (
    Drift,
    feature_table,
    histogram_table,
    measure_drift,
    quantile_table,
)
from saetrack.analysis.drift.trajectories import choose_features, collect_rows, trajectory_table
from saetrack.analysis.drift.verdicts import verdicts

if TYPE_CHECKING:
    from saetrack.analysis.drift.controls import Role
    from saetrack.analysis.pipeline.meaning_tables import Meaning
    from saetrack.analysis.pipeline.registered_chain import RegisteredChain

SHOWN_TRAJECTORIES = 6


def chain_drift(registered: RegisteredChain) -> Drift:
    """How far a chain's directions travel; the decoder rows of a few links are in memory."""
    final = registered.decoder(registered.links[-1])
    before = (registered.decoder(link) for link in registered.links[:-1])
    return measure_drift(chain(before, [final]), final)


def drift_tables(
    registered: RegisteredChain,
    drift: Drift,
    controls: Mapping[str, tuple[Role, Drift]],
    meaning: Meaning,
    seed: int,
) -> tuple[dict[str, pd.DataFrame], list[ControlDrift]]:
    """How far directions travel, beside what training alone does (section 5)."""
    of_chain = quantile_table(drift, list(meaning.labels.sort_index()))
    bands = [
        ControlDrift.of(name, role, of_control) for name, (role, of_control) in controls.items()
    ]
    histograms = [histogram_table(drift).assign(chain="chain")]
    histograms += [
        histogram_table(of_control).assign(chain=name)
        for name, (role, of_control) in controls.items()
        if role == "noise"
    ]
    formed = formation_links(meaning, drift)
    tables = {
        "drift": of_chain,
        "drift_histograms": pd.concat(histograms, ignore_index=True),
        **_beside_controls(of_chain, bands, drift, formed),
    }
    shown = choose_features(drift.always_alive, SHOWN_TRAJECTORIES, seed)
    tables["drift_of_features"] = feature_table(drift, list(shown))
    rows = collect_rows((registered.decoder(link) for link in registered.links), shown)
    tables["trajectories"] = trajectory_table(
        rows, shown, drift.lm_steps, drift.checkpoint_indices, formed[shown]
    )
    return tables, bands


def _beside_controls(
    of_chain: pd.DataFrame, bands: list[ControlDrift], drift: Drift, formed: np.ndarray
) -> dict[str, pd.DataFrame]:
    if not bands:
        return {}
    noise = next((band.quantiles for band in bands if band.role == "noise"), None)
    held = compare_with_controls(of_chain, bands)
    after = drift_after_formation(drift, formed, noise)
    return {
        "drift_beside_controls": held,
        "drift_after_formation": after,
        "drift_verdicts": verdicts(held, after_formation=after if noise is not None else None),
    }


def formation_links(meaning: Meaning, drift: Drift) -> np.ndarray:
    """The link, counted along the chain, from which on each feature is formed; -1 for never."""
    number_of = {index: number for number, index in enumerate(drift.checkpoint_indices)}
    formed = meaning.tables["patterns"].sort_values("feature")["formed_checkpoint_index"]
    return np.asarray(formed.map(number_of).fillna(-1), np.int64)
