"""Features of two registered chains over one LM, matched at the last checkpoint that both have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from saetrack.analysis.matching.activation_matching import (
    CorrelationScores,
    SharedTokens,
    correlation_numbers,
    match_activations,
)
from saetrack.analysis.matching.decoder_matching import match_features, match_random
from saetrack.analysis.pipeline.analysis_text import left_out
from saetrack.lm.hooked import LM_BATCH_ROWS
from saetrack.registry.received import Decoder
from saetrack.utils.progress import Progress

if TYPE_CHECKING:
    from saetrack.analysis.pipeline.config import AnalyzeConfig
    from saetrack.analysis.pipeline.registered_chain import RegisteredChain
    from saetrack.chain.plan import Link
    from saetrack.lm.hooked import HookedLM
    from saetrack.registry import PulledLink

PAIR_COLUMNS = ["by", "left", "right", "score", "decoder_cosine", "margin", "mutual_best"]


def shared_links(left: RegisteredChain, right: RegisteredChain) -> tuple[Link, Link] | None:
    """The links of two chains at the last checkpoint that both have; None if there is none.

    Of several links over one checkpoint, as of an LM that stands still, the last one is taken.
    """
    by_checkpoint = {right.standing or link.checkpoint: link for link in right.links}
    for link in reversed(left.links):
        at = left.standing or link.checkpoint
        if at in by_checkpoint:
            return link, by_checkpoint[at]
    return None


def match_chains(
    left: RegisteredChain, right: RegisteredChain, config: AnalyzeConfig
) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """What `match_links` gives of two chains' `shared_links`; None if there are none."""
    links = shared_links(left, right)
    if links is None:
        return None
    hooks = left.chain.hook, right.chain.hook
    lm = left.lm(links[0], tuple(dict.fromkeys(hooks)))
    pulled = left.pull(links[0]), right.pull(links[1])
    pairs, numbers = match_links((left, right), pulled, lm, config)
    lm_step = (left.standing or links[0].checkpoint).lm_step
    return pairs.assign(lm_step=lm_step), numbers.assign(lm_step=lm_step)


def match_links(
    chains: tuple[RegisteredChain, RegisteredChain],
    pulled: tuple[PulledLink, PulledLink],
    lm: HookedLM,
    config: AnalyzeConfig,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Match the features of two links over one checkpoint, on the LM's device.

    Args:
        chains: two. On the first tokens of the left one's analysis split activations are
            correlated; positions that either was not trained on are left out.
        pulled: a link of each.
        lm: the checkpoint, hooked at their hooks.
        config: how many tokens, whether BOS counts, and the seed of the random directions and of
            the tokens' shuffled order.

    Returns:
        One row per pair:

        - `by`: `decoder`, `activations`, and the chance levels of both: `random directions` in the
          right SAE's place, and its `shuffled tokens`;
        - `left`, `right`: feature indices; `score`: cosine, or correlation of activations;
        - `decoder_cosine`: NaN between hooks;
        - `margin`, `mutual_best`: see `saetrack.analysis.matching.matching`;

        and one row per way of matching, with its numbers.
    """
    pairs: list[pd.DataFrame] = []
    numbers: list[dict[str, Any]] = []
    decoders = None
    if chains[0].chain.hook == chains[1].chain.hook:
        left, right = (Decoder(link.sae.W_dec.detach(), link.feature_density) for link in pulled)
        decoders = left.W_dec, right.W_dec
        for by, found in (
            ("decoder", match_features(left, right, device=lm.device)),
            ("random directions", match_random(left, config.seed, lm.device)),
        ):
            pairs.append(found.pairs.assign(by=by, decoder_cosine=found.pairs["score"]))
            numbers.append({"by": by, **found.scalars()})
    correlations = _correlations(chains, pulled, lm, config)
    shuffled = correlations.shuffled(config.seed)
    for by, scores in (("activations", correlations), ("shuffled tokens", shuffled)):
        found = match_activations(scores, decoders)
        pairs.append(found.pairs.assign(by=by))
        numbers.append({"by": by, **correlation_numbers(scores, found)})
    return pd.concat(pairs, ignore_index=True)[PAIR_COLUMNS], pd.DataFrame(numbers)


def _correlations(
    chains: tuple[RegisteredChain, RegisteredChain],
    pulled: tuple[PulledLink, PulledLink],
    lm: HookedLM,
    config: AnalyzeConfig,
) -> CorrelationScores:
    """Of both SAEs' activations, from one pass of the LM up to the higher hook."""
    saes = [link.sae.to(lm.device) for link in pulled]
    corpus = chains[0].chain.corpus
    rows = corpus.rows("analysis")[: max(1, config.match_tokens // corpus.context_size)]
    read = [lm.hooks.index(registered.chain.hook) for registered in chains]
    excluded = left_out(chains[0], config) | left_out(chains[1], config)
    acts = SharedTokens()
    progress = Progress("two SAEs", rows.size, "tokens")
    for start in range(0, len(rows), LM_BATCH_ROWS):
        token_ids = torch.from_numpy(rows[start : start + LM_BATCH_ROWS].astype("int64"))
        kept = excluded.kept(token_ids).flatten()
        x = lm.activations(token_ids).flatten(1, 2)[:, kept.to(lm.device)]
        acts.add(*(sae.active_pairs(x[index]) for sae, index in zip(saes, read, strict=True)))
        progress.advance(token_ids.numel())
    return acts.correlations(lm.device)
