"""The distributions of figure 5a as histograms: how many features have which cosine."""

from __future__ import annotations

import numpy as np
import pandas as pd

from saetrack.analysis.drift.measure import Drift

QUANTITY = "cosine_to_final"


def histogram_table(drift: Drift, bins: int = 40) -> pd.DataFrame:
    """Cosines to the final direction in equal bins from -1 to 1, the same for every chain.

    Returns:
        One row per link and bin: `link` (0 is the first), `lm_step`, `checkpoint_index`,
        `quantity`, `low`, `high` (of the bin), `features` (in it), `share` (of those that are not
        excluded; NaN if all are), `excluded` (at this link: dead here or at the final link, or
        without a direction).
    """
    edges = np.linspace(-1, 1, bins + 1)
    rows = []
    for link, cosines in enumerate(drift.cosine_to_final):
        kept = cosines[~drift.excluded[link] & ~np.isnan(cosines)]
        # Rounding may leave a cosine outside of its range, and of all bins.
        counts, _ = np.histogram(kept.clip(-1, 1), edges)
        rows.append(
            pd.DataFrame(
                {
                    "link": link,
                    "lm_step": int(drift.lm_steps[link]),
                    "checkpoint_index": int(drift.checkpoint_indices[link]),
                    "quantity": QUANTITY,
                    "low": edges[:-1],
                    "high": edges[1:],
                    "features": counts,
                    "share": counts / len(kept) if len(kept) else np.nan,
                    "excluded": len(cosines) - len(kept),
                }
            )
        )
    return pd.concat(rows, ignore_index=True)
