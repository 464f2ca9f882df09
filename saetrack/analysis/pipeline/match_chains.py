"""Which feature of one chain is which of another: two seeds, forward and reverse, two layers.

Matched twice: by decoder cosine, where both read one residual stream, and by the correlation of
their activations on the same tokens. Random directions and shuffled tokens give the chance levels.
"""

from __future__ import annotations

from dataclasses import dataclass
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
from saetrack.lm.hook import Hook
from saetrack.lm.hooked import LM_BATCH_ROWS
from saetrack.sae.kernels.sparse import active_pairs
from saetrack.utils.progress import Progress

if TYPE_CHECKING:
    from saetrack.analysis.pipeline.config import AnalyzeConfig
    from saetrack.analysis.pipeline.registered_chain import RegisteredChain
    from saetrack.chain.plan import Link
    from saetrack.data.corpus import Corpus
    from saetrack.lm.hook import Hook
    from saetrack.lm.hooked import HookedLM
    from saetrack.registry import PulledLink

PAIR_COLUMNS = ["by", "left", "right", "score", "decoder_cosine", "margin", "mutual_best"]


@dataclass(frozen=True)
class MatchedTokens:
    """The tokens on which activations are correlated.

    Attributes:
        corpus: of its analysis split they are the first.
        count: how many, rounded down to rows.
        exclude_bos: leave BOS positions out of them.
    """

    corpus: Corpus
    count: int
    exclude_bos: bool


def shared_links(left: RegisteredChain, right: RegisteredChain) -> tuple[Link, Link] | None:
    """The links of two chains at the last checkpoint that both have; None if there is none."""
    by_checkpoint = {link.checkpoint: link for link in right.links}
    shared = [
        (link, by_checkpoint[link.checkpoint])
        for link in left.links
        if link.checkpoint in by_checkpoint
    ]
    return shared[-1] if shared else None


def match_chains(
    left: RegisteredChain, right: RegisteredChain, config: AnalyzeConfig
) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Match the features of two chains over one LM at the last checkpoint that both have.

    Args:
        left: a chain.
        right: another one, of the same hook or of another.
        config: tokens, whether BOS counts, and the seed.

    Returns:
        None if they share no checkpoint, else what `match_links` gives.
    """
    links = shared_links(left, right)
    if links is None:
        return None
    hooks = left.chain.hook, right.chain.hook
    lm = left.lm(links[0], tuple(dict.fromkeys(hooks)))
    pulled = left.pull(links[0]), right.pull(links[1])
    tokens = MatchedTokens(left.chain.corpus, config.match_tokens, config.exclude_bos)
    pairs, numbers = match_links(pulled, hooks, lm, tokens, config.seed)
    lm_step = links[0].checkpoint.lm_step
    return pairs.assign(lm_step=lm_step), numbers.assign(lm_step=lm_step)


def match_links(
    pulled: tuple[PulledLink, PulledLink],
    hooks: tuple[Hook, Hook],
    lm: HookedLM,
    tokens: MatchedTokens,
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Match the features of two links over one checkpoint.

    Args:
        pulled: the two links.
        hooks: that they read.
        lm: the checkpoint, hooked at these.
        tokens: on which activations are correlated.
        seed: of the random directions, and of the tokens' shuffled order.

    Returns:
        One row per pair:

        - `by`: `decoder`, `activations`, and the chance levels of both: `random directions` in the
          right SAE's place, and its `shuffled tokens`;
        - `left`, `right`: feature indices; `score`: cosine, or correlation of activations;
        - `decoder_cosine`: NaN between hooks;
        - `margin`, `mutual_best`: see `saetrack.analysis.matching.match_quality`;

        and one row per way of matching, with its numbers.
    """
    pairs, numbers = [], []
    if hooks[0] == hooks[1]:
        for by, found in _by_direction(*pulled, seed).items():
            pairs.append(_direction_pairs(by, found))
            numbers.append({"by": by, **found.scalars()})
    tables, summaries = _by_activation(pulled, hooks, lm, tokens, seed)
    return pd.concat([*pairs, *tables], ignore_index=True), pd.DataFrame(numbers + summaries)


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
    pulled: tuple[PulledLink, PulledLink],
    hooks: tuple[Hook, Hook],
    lm: HookedLM,
    tokens: MatchedTokens,
    seed: int,
) -> tuple[list[pd.DataFrame], list[dict[str, Any]]]:
    saes = [link.sae.to(lm.device) for link in pulled]
    acts = _shared_tokens(pulled, hooks, lm, tokens)
    decoders = (saes[0].W_dec, saes[1].W_dec) if hooks[0] == hooks[1] else None
    correlations = acts.correlations()
    by_score = {"activations": correlations, "shuffled tokens": correlations.shuffled(seed)}
    tables, numbers = [], []
    for by, scores in by_score.items():
        found, table = match_activations(scores, decoders=decoders)
        tables.append(table.rename(columns={"correlation": "score"}).assign(by=by)[PAIR_COLUMNS])
        summary = match_summary(scores, found, table)
        numbers.append({"by": by, **{str(name): value for name, value in summary.items()}})
    return tables, numbers


def _shared_tokens(
    pulled: tuple[PulledLink, PulledLink],
    hooks: tuple[Hook, Hook],
    lm: HookedLM,
    tokens: MatchedTokens,
) -> SharedTokens:
    """Both SAEs' activations, from one pass of the LM up to the higher hook."""
    corpus = tokens.corpus
    rows = corpus.rows("analysis")[: max(1, tokens.count // corpus.context_size)]
    read = [lm.hooks.index(hook) for hook in hooks]
    acts = SharedTokens()
    progress = Progress("two SAEs", rows.size, "tokens")
    for start in range(0, len(rows), LM_BATCH_ROWS):
        token_ids = torch.from_numpy(rows[start : start + LM_BATCH_ROWS].astype("int64"))
        kept = (token_ids != corpus.bos_token_id).flatten() | (not tokens.exclude_bos)
        x = lm.activations(token_ids).flatten(1, 2)[:, kept.to(lm.device)]
        left, right = (
            active_pairs(link.sae, x[index]) for link, index in zip(pulled, read, strict=True)
        )
        acts.add(left, right)
        progress.advance(token_ids.numel())
    return acts
