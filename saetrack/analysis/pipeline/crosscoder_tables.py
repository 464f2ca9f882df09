"""The tables of a chain beside a crosscoder: quality, cost, emergence, and whether they agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from saetrack.analysis.comparison.crosscoder import (
    BESIDE,
    CHAIN,
    CROSSCODER,
    QUALITY,
    agreement,
    emergence_counts,
    emergence_table,
    rivals_summary,
)
from saetrack.analysis.matching.decoder_matching import match_features, match_random
from saetrack.analysis.matching.matching import SIMILAR, Matching
from saetrack.analysis.pipeline.registered_chain import RegisteredChain
from saetrack.chain.crosscoder import CrosscoderPlan
from saetrack.registry.received import Decoder
from saetrack.sae.crosscoder import Crosscoder

if TYPE_CHECKING:
    from torch import Tensor

MOMENTS = ("forms", "causes")
ANOTHER = "emerges in the crosscoder of another seed"


@dataclass(frozen=True)
class Rival:
    """A trained crosscoder.

    Attributes:
        planned: what it is.
        crosscoder: its weights.
        density: share of held-out tokens on which each feature fires, (d_sae,).
        history: its held-out evaluations, a row for each checkpoint.
    """

    planned: CrosscoderPlan
    crosscoder: Crosscoder
    density: Tensor
    history: pd.DataFrame

    @property
    def seed(self) -> int:
        """Of its weights and of the tokens' order."""
        return self.planned.chain.config.seed

    @property
    def lm_steps(self) -> list[int]:
        """Of its checkpoints."""
        return [checkpoint.lm_step for checkpoint in self.planned.checkpoints]

    @property
    def last_decoder(self) -> Decoder:
        """Of its last checkpoint."""
        last = self.crosscoder.decoder_at(len(self.lm_steps) - 1)
        return Decoder(last.W_dec.detach(), self.density)

    def emergence(self) -> pd.DataFrame:
        """When its features emerge."""
        norms = self.crosscoder.decoder_norms().detach().double().numpy()
        return emergence_table(norms, self.density.numpy(), self.lm_steps)


def crosscoder_tables(
    whole: RegisteredChain,
    beside: Sequence[RegisteredChain],
    rivals: Sequence[Rival],
    moments: pd.DataFrame | None,
) -> dict[str, pd.DataFrame]:
    """Everything that is compared.

    Args:
        whole: the chain.
        beside: the chain over the crosscoders' checkpoints alone, with each seed.
        rivals: the crosscoders, with each seed.
        moments: of the chain's features, from its analysis; None if there is none.

    Returns:
        `quality`, a row per rival, seed and checkpoint; `costs`, a row per rival and seed;
        `summary`; `curve`, every held-out evaluation of the crosscoders; `emergence`, a row per
        feature of each crosscoder, and `emergence_counts`; `pairs`, features matched with those of
        the chain's last link, and `matching`; `agreement`; `moments`, the chain's.
    """
    steps = rivals[0].lm_steps
    chains = [(CHAIN, whole), *((BESIDE, one) for one in beside)]
    quality = [_chain_quality(rival, one, steps) for rival, one in chains]
    quality += [
        one.history.groupby("lm_step").tail(1).assign(rival=CROSSCODER, seed=one.seed)
        for one in rivals
    ]
    costs = [_chain_costs(rival, one) for rival, one in chains] + [_costs(one) for one in rivals]
    columns = ["rival", "seed", "lm_step", *QUALITY]
    tables = {
        "quality": pd.concat(quality, ignore_index=True)[columns],
        "costs": pd.DataFrame(costs),
        "curve": pd.concat(
            [one.history.assign(seed=one.seed) for one in rivals], ignore_index=True
        ),
    }
    tables["summary"] = rivals_summary(tables["quality"], tables["costs"])
    emergences = {one.seed: one.emergence() for one in rivals}
    tables["emergence"] = pd.concat(
        [table.assign(seed=seed) for seed, table in emergences.items()], ignore_index=True
    )
    tables["emergence_counts"] = pd.concat(
        [emergence_counts(table, steps).assign(seed=seed) for seed, table in emergences.items()],
        ignore_index=True,
    )
    known = _steps_of(moments)
    tables |= _matched(whole, beside, rivals, emergences, known)
    tables["moments"] = pd.DataFrame(known).rename_axis("feature").reset_index()
    return tables


def rival_metrics(tables: Mapping[str, pd.DataFrame]) -> dict[str, float]:
    """Numbers to compare runs by: means over seeds, and the agreement of similar pairs."""
    found = {
        f"{row['rival'].replace(' ', '_')}.{name}": float(row[f"{name}_mean"])
        for _, row in tables["summary"].iterrows()
        for name in QUALITY
    }
    similar = tables["agreement"][tables["agreement"]["min_cosine"] > 0]
    for moment, rows in similar.groupby("moment"):
        found[f"spearman.{str(moment).replace(' ', '_')}"] = float(rows["spearman"].mean())
    return {name: value for name, value in found.items() if not np.isnan(value)}


def _chain_quality(rival: str, whole: RegisteredChain, lm_steps: list[int]) -> pd.DataFrame:
    table = whole.ready.registry.table(whole.chain)
    table = table[table["lm_step"].isin(lm_steps)].reindex(columns=["lm_step", *QUALITY])
    return table.assign(rival=rival, seed=whole.chain.config.seed)


def _chain_costs(rival: str, whole: RegisteredChain) -> dict[str, Any]:
    table = whole.ready.registry.table(whole.chain)
    tokens = int(table["tokens"].sum())
    seconds = [
        whole.ready.registry.history(whole.chain.name, version)["train_s"].max()
        for version in table["version"].astype(int)
    ]
    return {
        "rival": rival,
        "seed": whole.chain.config.seed,
        "checkpoints": len(table),
        "tokens": tokens,
        "lm_tokens": tokens,
        "train_s": float(np.sum(seconds)),
    }


def _costs(one: Rival) -> dict[str, Any]:
    tokens, checkpoints = int(one.history["tokens"].max()), len(one.lm_steps)
    return {
        "rival": CROSSCODER,
        "seed": one.seed,
        "checkpoints": checkpoints,
        "tokens": tokens,
        "lm_tokens": tokens * checkpoints,
        "train_s": float(one.history["train_s"].max()),
    }


def _steps_of(moments: pd.DataFrame | None) -> dict[str, pd.Series[float]]:
    """The LM step of each moment by feature of the chain; NaN for never."""
    if moments is None:
        return {}
    of = {name: moments[moments["moment"] == name] for name in MOMENTS}
    return {name: rows.set_index("feature")["lm_step"] for name, rows in of.items() if len(rows)}


def _decoder(whole: RegisteredChain, lm_step: int) -> Decoder:
    link = next(link for link in whole.links if link.checkpoint.lm_step == lm_step)
    version = whole.versions[link.identity]
    return whole.ready.registry.decoder(whole.chain.name, version)


def _matched(
    whole: RegisteredChain,
    beside: Sequence[RegisteredChain],
    rivals: Sequence[Rival],
    emergences: Mapping[int, pd.DataFrame],
    known: Mapping[str, pd.Series[float]],
) -> dict[str, pd.DataFrame]:
    """`pairs`, `matching` and `agreement` of `crosscoder_tables`, at the last checkpoint."""
    last = rivals[0].lm_steps[-1]
    of_chain = _decoder(whole, last)
    emerged = {seed: table.set_index("feature")["lm_step"] for seed, table in emergences.items()}
    pairs, matching, agreements = [], [], []

    def add(what: str, seeds: str, found: Matching) -> pd.DataFrame:
        matching.append({"matched": what, "seeds": seeds, **found.scalars()})
        return found.pairs

    for rival in rivals:
        seeds, decoder = f"{rival.seed}", rival.last_decoder
        of_rival = add("crosscoder, chain", seeds, match_features(decoder, of_chain))
        add("crosscoder, random directions", seeds, match_random(decoder, rival.seed))
        steps = {name: of_rival["right"].map(of) for name, of in known.items()}
        of_rival = of_rival.assign(emerges=of_rival["left"].map(emerged[rival.seed]), **steps)
        pairs.append(of_rival.assign(seed=rival.seed))
        for name in steps:
            agreements += list(_agreements(of_rival, name, name, seeds, rival.seed))
    for one in beside:
        if one.chain.config.seed != whole.chain.config.seed:
            seeds = f"{one.chain.config.seed}, {whole.chain.config.seed}"
            add("chains of two seeds", seeds, match_features(_decoder(one, last), of_chain))
    for left, right in combinations(rivals, 2):
        found = match_features(left.last_decoder, right.last_decoder)
        seeds = f"{left.seed}, {right.seed}"
        both = add("crosscoders of two seeds", seeds, found)
        both = both.assign(
            emerges=both["left"].map(emerged[left.seed]),
            another=both["right"].map(emerged[right.seed]),
        )
        agreements += list(_agreements(both, "another", ANOTHER, seeds, left.seed))
    return {
        "pairs": pd.concat(pairs, ignore_index=True),
        "matching": pd.DataFrame(matching),
        "agreement": pd.DataFrame(agreements),
    }


def _agreements(
    pairs: pd.DataFrame, column: str, moment: str, seeds: str, seed: int
) -> Iterator[dict[str, Any]]:
    """Of all pairs, and of the similar ones."""
    for min_cosine in (0.0, SIMILAR):
        rows = pairs[pairs["score"] >= min_cosine]
        numbers = agreement(rows["emerges"].to_numpy(float), rows[column].to_numpy(float), seed)
        yield {"moment": moment, "seeds": seeds, "min_cosine": min_cosine, **numbers}
