"""Tables of an analysis with known headline numbers."""

from __future__ import annotations

import pandas as pd


def tables_of_an_analysis() -> dict[str, pd.DataFrame]:
    """The tables that headline numbers are read from; `still` is a noise control."""
    ends = pd.DataFrame(
        [
            ("chain", "chain", "token", 0.6, 0.5),
            ("chain", "chain", "concept", 0.02, 0.09),
            ("still", "noise", "token", 0.6, 0.6),
            ("still", "noise", "concept", 0.02, 0.07),
        ],
        columns=["chain", "role", "label", "first", "final"],
    )
    shares = pd.DataFrame(
        [
            ("chain", "chain", "grouping", 144, 0.144, 0.12, 0.17, None, None, None),
            ("still", "noise", "grouping", 130, 0.130, 0.11, 0.15, 0.014, -0.02, 0.04),
        ],
        columns=[
            *("chain", "role", "pattern", "features", "share", "low", "high"),
            *("excess", "excess_low", "excess_high"),
        ],
    )
    agreement = pd.DataFrame(
        [("second seed", "replicate", "all", 900, 0.46, 0.4, 0.5)],
        columns=["other", "role", "first_label", "pairs", "kappa", "kappa_low", "kappa_high"],
    )
    phases = pd.DataFrame(
        [
            ("concept: progress", 17, 0.31, 0.61, 3, 48.0, 384.0),
            ("random directions: progress", 256, 0.21, 0.39, 1, None, None),
        ],
        columns=[
            *("curve", "features", "first", "final", "segments"),
            *("emergent_lm_step", "convergent_lm_step"),
        ],
    ).astype({"emergent_lm_step": float, "convergent_lm_step": float})
    drift = pd.DataFrame(
        {
            "feature_class": "all",
            "quantity": "cosine_to_final",
            "link": [1, 0],
            "q50": [1.0, 0.16],
        }
    )
    held = pd.DataFrame(
        [("still", "noise", "cosine_to_final", 0, 0.16 - 0.68, 0.2)],
        columns=["control", "role", "quantity", "link", "difference", "noise_share"],
    )
    return {
        "end_labels": ends,
        "labels_of_random_directions": pd.DataFrame(
            {"label": ["token"], "share": [0.1], "first_share": [0.4], "directions": 256}
        ),
        "concept_nulls": pd.DataFrame(
            [(0, "random directions", 400, -1, -3, 1), (9, "random directions", 400, 12, 5, 19)],
            columns=["lm_step", "null", "judged", "excess", "excess_low", "excess_high"],
        ),
        "pattern_shares": shares,
        "paper_pattern_shares": shares,
        "pattern_agreement": agreement,
        "phases": phases,
        "drift": drift,
        "drift_beside_controls": held,
        "drift_verdicts": pd.DataFrame(
            [("widespread drift", "still", True)], columns=["claim", "control", "stands"]
        ),
        "own_index": pd.DataFrame(
            [("chain", 0, 0.07, 0.31, 0.27), ("still", 0, 0.9, 0.9, 0.27)],
            columns=["chain", "link", "in_last", "best_cosine", "chance"],
        ),
        "matching": pd.DataFrame(
            [("second seed", "decoder", 0.79), ("second seed", "random directions", 0.26)],
            columns=["other", "by", "median_cosine"],
        ),
        "polysemy": pd.DataFrame(
            {"lost_senses": [True, True, False, False], "gained_senses": [True] + [False] * 3}
        ),
        "warm_starts": pd.DataFrame(
            {
                "measure": ["cka_distance"],
                "spearman": [0.99],
                "spearman_low": [0.9],
                "spearman_high": [1.0],
            }
        ),
        "collapse": pd.DataFrame({"raw_mean": [0.2, 0.5, 0.07]}),
    }


def headline_of_chain(
    numbers: dict[str, float], *, lm: str, chain: str, sae_seed: int = 0, control: str = ""
) -> pd.DataFrame:
    """Headline numbers by name, each with an interval of .01 to either side."""
    table = pd.DataFrame({"name": list(numbers), "value": list(numbers.values())})
    table = table.assign(control=control, low=table["value"] - 0.01, high=table["value"] + 0.01)
    of = {"chain": chain, "lm": lm, "sae_seed": sae_seed, "hook": "L2"}
    return table.assign(unit="share", features=400.0, **of)
