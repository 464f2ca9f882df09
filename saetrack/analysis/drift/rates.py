"""How fast feature directions turn: per LM step and per learning rate, less training noise.

Links lie at different distances in LM steps, so that an angle per link says as much about the
schedule as about the LM. Here each link's angle is divided by the LM steps, and by the learning
rates, between its checkpoints, after a noise control's angle is taken away. Cosines of independent
displacements multiply: the net cosine is the chain's over the control's.

Even a rate compares checkpoints at different distances fairly only while directions turn straight
on. Of a walk that goes back and forth, the same LM step shows less over a longer distance. So each
link tells how straight the last two were: 1 for straight on, .71 for two unrelated turns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from saetrack.analysis.drift.residual_turns import ResidualTurns, median

if TYPE_CHECKING:
    from jaxtyping import Float

    from saetrack.analysis.drift.measure import Drift

NONE = "none"
# Of the interval of a median, in standard deviations of a rank: 95 %.
WIDTH = 1.96


def rate_table(
    drift: Drift,
    controls: Mapping[str, Drift],
    turns: ResidualTurns | None = None,
    learning_rates: Mapping[int, float] | None = None,
) -> pd.DataFrame:
    """How fast features turn from each checkpoint to the next, beside each noise control.

    Args:
        drift: of the chain.
        controls: of noise controls, by name; they correspond by links since the first.
        turns: of the residuals.
        learning_rates: of the LM, summed over the steps to a checkpoint from the one before, by
            the LM step of the former.

    Returns:
        One row per control (`none` without any) and link but the first, with the columns

        - `control`, `link`, `from_step`, `lm_step`, `learning_rate` (summed, NaN if not known);
        - `angle`, `control_angle`: of the median feature, radians; `residual_angle`: of contexts'
          mean residuals (`saetrack.analysis.drift.residual_turns`), NaN if not known;
        - `net_angle`, the control's taken away, `net_low` and `net_high`, the ends of its 95 %
          interval (of both medians over features); 0 where the chain turns no more than the
          control;
        - `per_lm_step`, `per_lm_step_low`, `per_lm_step_high`: the net angle over LM steps;
          `per_learning_rate`: over `learning_rate`;
        - `straightness`: the angle over the last two links, over the sum of their angles; NaN at
          the second link.
    """
    shared = _of_chain(drift, turns, learning_rates or {})
    parts = []
    for name, control in controls.items() or [(NONE, None)]:
        beside = _beside(drift, control, shared["link"].to_numpy())
        table = pd.concat([shared, beside], axis=1)
        table.insert(0, "control", name)
        parts.append(table[table["control_angle"].notna() | (control is None)])
    table = pd.concat(parts, ignore_index=True)
    steps = table["lm_step"] - table["from_step"]
    for end in ("", "_low", "_high"):
        net = table[f"net{end or '_angle'}"]
        table[f"per_lm_step{end}"] = net / steps.replace(0, np.nan)
    table["per_learning_rate"] = table["net_angle"] / table["learning_rate"].replace(0, np.nan)
    return table


def _of_chain(
    drift: Drift, turns: ResidualTurns | None, learning_rates: Mapping[int, float]
) -> pd.DataFrame:
    """What does not depend on the control, per link but the first."""
    rows = []
    for link in range(1, len(drift.lm_steps)):
        angle, before = (_angle(_median(drift, at)[0]) for at in (link, link - 1))
        over_two = _angle(median(drift.cosine_over_two[link][~drift.excluded[link]]))
        rows.append(
            {
                "link": link,
                "from_step": int(drift.lm_steps[link - 1]),
                "lm_step": int(drift.lm_steps[link]),
                "learning_rate": learning_rates.get(int(drift.lm_steps[link]), np.nan),
                "angle": angle,
                "residual_angle": _angle(median(turns.to_previous[link])) if turns else np.nan,
                "straightness": over_two / (angle + before) if angle + before > 0 else np.nan,
            }
        )
    return pd.DataFrame(rows)


def _beside(drift: Drift, control: Drift | None, links: np.ndarray) -> pd.DataFrame:
    """The control's angle and the net ones, per link; NaN where the control is shorter."""
    rows = []
    for link in links:
        chain, noise = _median(drift, link), np.ones(3)
        if control is not None:
            is_there = link < len(control.lm_steps)
            noise = _median(control, link) if is_there else np.full(3, np.nan)
        rows.append(
            {
                "control_angle": _angle(noise[0]) if control is not None else np.nan,
                "net_angle": _angle(chain[0] / noise[0]),
                # The higher the cosine, the smaller the angle.
                "net_low": _angle(chain[2] / noise[1]),
                "net_high": _angle(chain[1] / noise[2]),
            }
        )
    return pd.DataFrame(rows)


def _median(drift: Drift, link: int) -> Float[np.ndarray, "3"]:
    """The median cosine with the link before, and the ends of its interval by ranks."""
    values = drift.cosine_to_previous[link][~drift.excluded[link]]
    values = np.sort(values[~np.isnan(values)].astype(float))
    if not len(values):
        return np.full(3, np.nan)
    apart = WIDTH * len(values) ** 0.5 / 2
    ends = np.clip([len(values) / 2 - apart, len(values) / 2 + apart], 0, len(values) - 1)
    return np.array([np.median(values), *values[ends.round().astype(int)]])


def _angle(cosine: float) -> float:
    return float(np.arccos(np.clip(cosine, -1, 1)))
