"""Which feature of one chain is which of another: two seeds, forward and reverse, two layers.

Matched twice: by decoder cosine, where both read one residual stream, and by the correlation of
their activations on the same tokens. Random directions and shuffled tokens give the chance levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from saetrack.analysis.matching.activation_matching import (
    SharedTokens,
    match_activations,
    match_summary,
)
from saetrack.analysis.matching.decoder_matching import Matching, match_features, match_random
from saetrack.lm.hooked import LM_BATCH_ROWS
from saetrack.sae.kernels.sparse import active_pairs
from saetrack.utils.progress import Progress

if TYPE_CHECKING:
    from saetrack.analysis.pipeline.config import AnalyzeConfig
    from saetrack.analysis.pipeline.registered_chain import RegisteredChain
    from saetrack.chain.plan import Link
    from saetrack.registry import PulledLink

PAIR_COLUMNS = ["by", "left", "right", "score", "decoder_cosine", "margin", "mutual_best"]


def find_identity(
    config: AnalyzeConfig, registered: RegisteredChain, others: dict[str, RegisteredChain]
) -> dict[str, pd.DataFrame]:
    """Features of a chain matched with those of others (`match_chains`), by their names.

    Returns:
        `pairs` and `matching`, without rows if no other chain shares a checkpoint.
    """
    parts = [(pd.DataFrame(), pd.DataFrame())]
    for name, other in others.items():
        found = match_chains(
            registered,
            other,
            tokens=config.match_tokens,
            exclude_bos=config.exclude_bos,
            seed=config.seed,
        )
        if found is not None:
            pairs, numbers = found
            parts.append((pairs.assign(other=name), numbers.assign(other=name)))
    tables = (pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))
    return dict(zip(("pairs", "matching"), tables, strict=True))


def match_chains(
    left: RegisteredChain, right: RegisteredChain, *, tokens: int, exclude_bos: bool, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Match the features of two chains at the last checkpoint that both have.

    Args:
        left: one chain.
        right: another, over the same LM.
        tokens: of the analysis split on which activations are compared.
        exclude_bos: leave BOS positions out of them.
        seed: of the random directions, and of the tokens' shuffled order.

    Returns:
        None if they share no checkpoint. Else one row per pair, with `lm_step` and

        - `by`: `decoder`, `activations`, and the chance levels of both: `random directions` in the
          right SAE's place, and its `shuffled tokens`;
        - `left`, `right`: feature indices; `score`: cosine, or correlation of activations;
        - `decoder_cosine`: NaN between layers;
        - `margin`, `mutual_best`: see `saetrack.analysis.matching.match_quality`;

        and one row per way of matching, with its numbers.
    """
    theirs = {link.checkpoint: link for link in right.links}
    shared = [(link, theirs[link.checkpoint]) for link in left.links if link.checkpoint in theirs]
    if not shared:
        return None
    links = shared[-1]
    pulled = left.pull(links[0]), right.pull(links[1])
    same_stream = left.chain.layer == right.chain.layer
    pairs, numbers = [], []
    if same_stream:
        for by, found in _by_direction(*pulled, seed).items():
            pairs.append(_direction_pairs(by, found))
            numbers.append({"by": by, **found.scalars()})
    tables, summaries = _by_activation((left, right), links[0], pulled, tokens, exclude_bos, seed)
    pairs += tables
    numbers += summaries
    lm_step = links[0].checkpoint.lm_step
    return (
        pd.concat(pairs, ignore_index=True).assign(lm_step=lm_step),
        pd.DataFrame(numbers).assign(lm_step=lm_step),
    )


def _by_direction(left: PulledLink, right: PulledLink, seed: int) -> dict[str, Matching]:
    densities = left.feature_density, right.feature_density
    return {
        "decoder": match_features(left.sae, right.sae, *densities),
        "random directions": match_random(left.sae, left.feature_density, seed),
    }


def _direction_pairs(by: str, found: Matching) -> pd.DataFrame:
    cosine = found.cosine.numpy()
    columns = (found.left, found.right, cosine, cosine, found.margin, found.mutual_best)
    named = dict(zip(PAIR_COLUMNS[1:], map(np.asarray, columns), strict=True))
    return pd.DataFrame({"by": by, **named})


def _by_activation(
    sides: tuple[RegisteredChain, RegisteredChain],
    link: Link,
    pulled: tuple[PulledLink, PulledLink],
    tokens: int,
    exclude_bos: bool,
    seed: int,
) -> tuple[list[pd.DataFrame], list[dict[str, Any]]]:
    """One pass of the LM up to the higher hook."""
    layers = tuple(sorted({side.chain.layer for side in sides}))
    lm = sides[0].lm(link, layers)
    corpus = sides[0].chain.corpus
    rows = corpus.rows("analysis")[: max(1, tokens // corpus.context_size)]
    saes = [one.sae.to(lm.device) for one in pulled]
    acts = SharedTokens()
    progress = Progress(f"step {link.checkpoint.lm_step}, two SAEs", rows.size, "tokens")
    for start in range(0, len(rows), LM_BATCH_ROWS):
        token_ids = torch.from_numpy(rows[start : start + LM_BATCH_ROWS].astype("int64"))
        kept = (token_ids != corpus.bos_token_id).flatten() | (not exclude_bos)
        x = lm.resid_pre(token_ids).flatten(1, 2)[:, kept.to(lm.device)]
        acts.add(
            *(
                active_pairs(sae, x[layers.index(side.chain.layer)])
                for sae, side in zip(saes, sides, strict=True)
            )
        )
        progress.advance(token_ids.numel())
    decoders = (saes[0].W_dec, saes[1].W_dec) if len(layers) == 1 else None
    scores = acts.correlations()
    tables, numbers = [], []
    for by, those in (("activations", scores), ("shuffled tokens", scores.shuffled(seed))):
        found, table = match_activations(those, decoders=decoders)
        tables.append(table.rename(columns={"correlation": "score"}).assign(by=by)[PAIR_COLUMNS])
        summary = match_summary(those, found, table)
        numbers.append({"by": by, **{str(name): value for name, value in summary.items()}})
    return tables, numbers
