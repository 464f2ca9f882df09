"""The paper's claims about drift, each with a number, its control's, and whether it stands.

Every claim is stated so that a chain that only shows noise would fail it, and so would a stream
that changes while its directions stand still: its noise grows, it rotates as a whole, its scale
changes. SAEs turn on such streams too, and more than on a frozen LM. So a claim stands only if the
residuals themselves turn at the features' contexts
(`saetrack.analysis.drift.residual_turns`), and by a good part of what the chain turns beyond its
control. Each row states its criterion in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from saetrack.analysis.drift.residual_turns import ResidualTurns, median

# A claim stands if noise makes up at most this share of a drift,
NOISE_SHARE = 0.5
# residuals turn by this share of the angle at least that the chain turns beyond its control,
SEEN = 0.5
# and medians of a replicate differ by at most this much on average over links.
REPLICATE_GAP = 0.1

COLUMNS = ["claim", "control", "role", "value", "control_value", "seen", "criterion", "stands"]


def verdicts(
    held: pd.DataFrame, turns: ResidualTurns, after_formation: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Each claim of section 5 and appendix I.2 against each control that can decide it.

    Args:
        held: as `saetrack.analysis.drift.controls.compare_with_controls` gives it.
        turns: of the residuals, at the chain's checkpoints.
        after_formation: as `saetrack.analysis.drift.controls.drift_after_formation` gives it.

    Returns:
        One row per claim and control, with the columns `claim`, `control`, `role`, `value` (the
        chain's), `control_value`, `seen` (the residuals' angle as a share of the chain's beyond its
        control; NaN for replicates), `criterion` in words, `stands`. The claims:

        - `widespread drift` (figure 5a): at the first link the directions of three quarters of the
          features are further from their final ones than those of 95 % of the control's;
        - `drift of the LM's making`: noise is a small part of the median drift at the first link;
        - `drift after convergence`: noise is a small part of what features turn per link over the
          last third of links, the last link left out, at whose checkpoint contexts are chosen;
        - `formed features drift on` (Conclusion 4): most formed features are further from their
          final direction than 95 % of the control's;
        - `replicated` (appendix I.2): median cosines to the final direction are those of the
          replicate.

        Which links turn fastest is no claim: links lie at different distances in LM steps. See
        `saetrack.analysis.drift.rates`.
    """
    rows = []
    for (control, role), beside in held.groupby(["control", "role"], sort=False):
        found = _against_noise(beside, turns) if role == "noise" else _against_replicate(beside)
        rows += [{"control": control, "role": role, **row} for row in found]
    if after_formation is not None and after_formation["beyond_noise"].notna().any():
        rows.append(_formed(after_formation))
    return pd.DataFrame(rows, columns=COLUMNS)


_ALSO = f"; seen >= {SEEN}"


def _formed(after_formation: pd.DataFrame) -> dict[str, object]:
    """The row of `verdicts` for features that are formed."""
    share = float(after_formation["beyond_noise"].mean())
    followed = after_formation.dropna(subset="residual_cosine")
    seen = _seen(
        median(followed["residual_cosine"].to_numpy()),
        median(followed["cosine_at_formation"].to_numpy()),
    )
    return {
        "claim": "formed features drift on",
        "control": "at equally many links before its end",
        "role": "noise",
        "value": share,
        "control_value": 0.05,
        "seen": seen,
        "criterion": f"share of formed features below the control's q05 > 0.5{_ALSO}",
        "stands": share > 0.5 and seen >= SEEN,
    }


def _against_noise(beside: pd.DataFrame, turns: ResidualTurns) -> Iterator[dict[str, object]]:
    """The rows of `verdicts` for one noise control."""
    of = _quantity(beside)
    to_final, turned = of("cosine_to_final"), of("cosine_to_previous").dropna(subset="claim_q50")
    if len(to_final):
        first = to_final.iloc[0]
        net = first["claim_q50"] / first["control_q50"]
        seen = _seen(median(turns.to_late[first["link"]]), net)
        yield {
            "claim": "widespread drift",
            "value": first["claim_q75"],
            "control_value": first["control_q05"],
            "seen": seen,
            "criterion": f"q75 of the chain < q05 of the control, at LM step {first['lm_step']}"
            f"{_ALSO}",
            "stands": bool(first["claim_q75"] < first["control_q05"]) and seen >= SEEN,
        }
        yield {
            "claim": "drift of the LM's making",
            "value": first["claim_drift"],
            "control_value": first["control_drift"],
            "seen": seen,
            "criterion": f"-log cosine: control / chain < {NOISE_SHARE}{_ALSO}",
            "stands": bool(first["noise_share"] < NOISE_SHARE) and seen >= SEEN,
        }
    late = turned.iloc[-1 - max(1, len(turned) // 3) : -1]
    if len(turned) < 3:
        return
    chain, noise = (late[f"{side}_q50"].mean() for side in ("claim", "control"))
    residuals = np.mean([median(turns.to_previous[link]) for link in late["link"]])
    seen = _seen(float(residuals), chain / noise)
    yield {
        "claim": "drift after convergence",
        "value": -np.log(chain),
        "control_value": -np.log(noise),
        "seen": seen,
        "criterion": f"-log cosine per link, last third: control / chain < {NOISE_SHARE}{_ALSO}",
        "stands": bool(np.log(noise) > NOISE_SHARE * np.log(chain)) and seen >= SEEN,
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
            "seen": np.nan,
            "criterion": f"mean |difference of medians| = {gap:.3f} <= {REPLICATE_GAP}",
            "stands": gap <= REPLICATE_GAP,
        }


def _seen(residuals: float, chain: float) -> float:
    """The angle of one cosine as a share of another's; NaN where the latter is none."""
    angle = np.arccos(np.clip(chain, -1, 1))
    return float(np.arccos(np.clip(residuals, -1, 1)) / angle) if angle > 0 else float("nan")


def _quantity(beside: pd.DataFrame) -> Callable[[str], pd.DataFrame]:
    return lambda name: beside[beside["quantity"] == name].sort_values("link")
