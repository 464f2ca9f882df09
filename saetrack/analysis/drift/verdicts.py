"""The paper's claims about drift, each with a number, its control's, and whether it stands.

Every claim is stated so that a chain that only shows noise would fail it. Each row states
its criterion in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

# A claim stands if noise makes up at most this share of a drift,
NOISE_SHARE = 0.5
# the fastest link in between is so many times faster than both ends,
PEAK = 2.0
# and medians of a replicate differ by at most this much on average over links.
REPLICATE_GAP = 0.1


def verdicts(held: pd.DataFrame, after_formation: pd.DataFrame | None = None) -> pd.DataFrame:
    """Each claim of section 5 and appendix I.2 against each control that can decide it.

    Returns:
        One row per claim and control, with the columns `claim`, `control`, `role`, `value` (the
        chain's), `control_value`, `criterion` in words, `stands`. The claims:

        - `widespread drift` (figure 5a): at the first link the directions of three quarters of the
          features are further from their final ones than those of 95 % of the control's;
        - `drift of the LM's making`: noise is a small part of the median drift at the first link;
        - `fast in the middle` (figure 5b, three phases): the fastest link in between turns features
          several times faster than the first and last links do, and no control does that. It
          compares links, whose distances in LM steps differ by schedule;
        - `drift after convergence`: over the last third of links, noise is a small part of the
          angle that features turn per link;
        - `formed features drift on` (Conclusion 4): most formed features are further from their
          final direction than 95 % of the control's;
        - `replicated` (appendix I.2): median cosines to the final direction are those of the
          replicate.
    """
    rows = []
    for (control, role), beside in held.groupby(["control", "role"], sort=False):
        claims = _against_noise if role == "noise" else _against_replicate
        rows += [{"control": control, "role": role, **row} for row in claims(beside)]
    if after_formation is not None and after_formation["beyond_noise"].notna().any():
        share = float(after_formation["beyond_noise"].mean())
        rows.append(
            {
                "claim": "formed features drift on",
                "control": "at equally many links before its end",
                "role": "noise",
                "value": share,
                "control_value": 0.05,
                "criterion": "share of formed features below the control's q05 > 0.5",
                "stands": share > 0.5,
            }
        )
    columns = ["claim", "control", "role", "value", "control_value", "criterion", "stands"]
    return pd.DataFrame(rows, columns=columns)


def _against_noise(beside: pd.DataFrame) -> Iterator[dict[str, object]]:
    """The rows of `verdicts` for one noise control."""
    of = _quantity(beside)
    to_final, turned = of("cosine_to_final"), of("cosine_to_previous").dropna(subset="claim_q50")
    if len(to_final):
        first = to_final.iloc[0]
        yield {
            "claim": "widespread drift",
            "value": first["claim_q75"],
            "control_value": first["control_q05"],
            "criterion": f"q75 of the chain < q05 of the control, at LM step {first['lm_step']}",
            "stands": bool(first["claim_q75"] < first["control_q05"]),
        }
        yield {
            "claim": "drift of the LM's making",
            "value": first["claim_drift"],
            "control_value": first["control_drift"],
            "criterion": f"control / chain < {NOISE_SHARE}",
            "stands": bool(first["noise_share"] < NOISE_SHARE),
        }
    if len(turned) < 3:
        return
    chain, noise = (np.arccos(turned[f"{side}_q50"].to_numpy()) for side in ("claim", "control"))
    peaks = [float(angle.max() / max(angle[0], angle[-1])) for angle in (chain, noise)]
    yield {
        "claim": "fast in the middle",
        "value": peaks[0],
        "control_value": peaks[1],
        "criterion": f"fastest link / faster end >= {PEAK}, the control's below",
        "stands": bool(peaks[0] >= PEAK > peaks[1]),
    }
    last = -max(1, len(turned) // 3)
    late, late_noise = float(chain[last:].mean()), float(noise[last:].mean())
    yield {
        "claim": "drift after convergence",
        "value": late,
        "control_value": late_noise,
        "criterion": f"radians per link, last third: control / chain < {NOISE_SHARE}",
        "stands": bool(late_noise < NOISE_SHARE * late),
    }


def _against_replicate(beside: pd.DataFrame) -> Iterator[dict[str, object]]:
    """The row of `verdicts` for one replicate."""
    to_final = _quantity(beside)("cosine_to_final")
    if len(to_final):
        gap = float(to_final["difference"].abs().mean())
        yield {
            "claim": "replicated",
            "value": float(to_final["claim_q50"].mean()),
            "control_value": float(to_final["control_q50"].mean()),
            "criterion": f"mean |difference of medians| = {gap:.3f} <= {REPLICATE_GAP}",
            "stands": gap <= REPLICATE_GAP,
        }


def _quantity(beside: pd.DataFrame) -> Callable[[str], pd.DataFrame]:
    return lambda name: beside[beside["quantity"] == name].sort_values("link")
