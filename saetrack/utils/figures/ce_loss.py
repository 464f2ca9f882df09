"""What has to be said where shares of a CE loss are shown: what they are shares of."""

from __future__ import annotations

import pandas as pd

ABLATIONS = {"ce_loss_zero": "zero-ablation", "ce_loss_mean": "mean-ablation"}


def worse_than_guess(table: pd.DataFrame) -> str:
    """A sentence on the links whose ablation is worse than a uniform guess; empty without any.

    A share recovered of such an ablation flatters: part of it is won by being better than noise
    that misleads the LM.

    Args:
        table: a row per link: `ce_loss_zero`, `ce_loss_mean` and `ce_loss_uniform`, nats; NaN where
            a link has none.
    """
    found = []
    for column, words in ABLATIONS.items():
        beyond = table[table[column] > table["ce_loss_uniform"]]
        if len(beyond):
            found.append(
                f"{words} at {len(beyond)} of {len(table)} links (up to {beyond[column].max():.1f})"
            )
    if not found:
        return ""
    guess = table["ce_loss_uniform"].max()
    return (
        f"Worse than a uniform guess ({guess:.1f} nats), so that a share recovered flatters: "
        f"{', '.join(found)}."
    )
