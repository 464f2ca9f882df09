"""Kinds of SAE side by side: registered chains and frozen controls in, tables and figures out."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from scipy.sparse import hstack

from saetrack.analysis.comparison.architectures import (
    FollowedLink,
    kept_table,
    over_seeds,
    per_seed,
    token_ratios,
)
from saetrack.analysis.figures.architectures import (
    along_chain_figure,
    architectures_figure,
    architectures_report,
)
from saetrack.analysis.matching.activation_matching import FeatureActs, by_feature
from saetrack.analysis.pipeline.compared_saes import comparison_facts, curve_of, registered_saes
from saetrack.analysis.pipeline.config import CompareConfig
from saetrack.analysis.pipeline.registered_chain import RegisteredChain, chains_of
from saetrack.lm.hooked import LM_BATCH_ROWS
from saetrack.utils.files import content_hash
from saetrack.utils.progress import Progress
from saetrack.utils.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ComparedChain:
    """A chain of one kind and seed, and its control.

    Attributes:
        architecture: the kind's name in the comparison.
        seed: of both.
        chain: over the LM's training.
        frozen: over its last checkpoint.
    """

    architecture: str
    seed: int
    chain: RegisteredChain
    frozen: RegisteredChain


def compare_architectures(config: CompareConfig, settings: Settings) -> list[str]:
    """Compare, and log figures, tables and numbers as a run of the LM's experiment, one per hook.

    The same SAEs are compared once: a second time nothing is done.

    Args:
        config: with `architectures`, all of whose tracks are registered.
        settings: of the registry and the cache.

    Returns:
        What was found, in a line for each hook.
    """
    by_hook: list[list[ComparedChain]] = [[] for _ in config.track.all_hooks]
    for name in config.architectures or {}:
        for track, control in config.of_architecture(name):
            chains = chains_of(track, settings), chains_of(control, settings)
            for compared, chain, frozen in zip(by_hook, *chains, strict=True):
                compared.append(ComparedChain(name, track.seed, chain, frozen))
    return [_compare(compared, config.match_tokens) for compared in by_hook]


def _compare(compared: list[ComparedChain], match_tokens: int) -> str:
    chain, registry = compared[0].chain.chain, compared[0].chain.ready.registry
    seeds = sorted({one.seed for one in compared})
    title = f"compare architectures · {chain.lm_name} {chain.hook.short} · {len(seeds)} seeds"
    both = [(one, whole) for one in compared for whole in (one.chain, one.frozen)]
    links = [[one.architecture, *(link.identity for link in whole.links)] for one, whole in both]
    identity = content_hash([links, match_tokens])
    if not registry.reports.has(chain.lm_name, identity):
        tables = architecture_tables(compared, match_tokens)
        log.info("\n%s\n", architectures_report(tables["summary"], title))
        versions = {
            whole.chain.name: [whole.versions[link.identity] for link in whole.links]
            for _, whole in both
        }
        facts = comparison_facts(chain, identity, seeds, versions)
        with tempfile.TemporaryDirectory() as folder:
            _write(tables, Path(folder), f"{chain.lm_name} {chain.hook_name}")
            metrics = _metrics(tables["summary"])
            registry.reports.log(chain.lm_name, title, Path(folder), metrics=metrics, facts=facts)
    return f"{title}: {registry.reports.where(chain.lm_name, identity)}"


def architecture_tables(
    compared: list[ComparedChain], match_tokens: int
) -> dict[str, pd.DataFrame]:
    """Read what is compared and measure it.

    Returns:
        `links`, final metrics of every link of the chains; `kept`, what features keep from link to
        link, of chains and controls; `ratios`, tokens to equal quality; `seeds`, a row per kind and
        seed; `summary`, a row per kind.
    """
    links, kept = [], []
    curves: dict[str, list[pd.DataFrame]] = {}
    for one in compared:
        of: dict[str, Any] = {"architecture": one.architecture, "seed": one.seed}
        chain, registry = one.chain.chain, one.chain.ready.registry
        links.append(registry.table(chain).assign(**of))
        saes = registered_saes(registry, [chain], "link")
        curves.setdefault(one.architecture, []).extend(curve_of(registry, sae) for sae in saes)
        for kind, whole in (("chain", one.chain), ("frozen", one.frozen)):
            label = f"{one.architecture}, seed {one.seed}, {kind}"
            followed = followed_links(whole, match_tokens, label)
            kept.append(kept_table(followed, one.seed).assign(**of, chain=kind))
    tables = {
        "links": pd.concat(links, ignore_index=True),
        "kept": pd.concat(kept, ignore_index=True),
        "ratios": token_ratios({name: pd.concat(parts) for name, parts in curves.items()}),
    }
    seeds = per_seed(**tables)
    return {**tables, "seeds": seeds, "summary": over_seeds(seeds)}


def followed_links(whole: RegisteredChain, match_tokens: int, label: str) -> Iterator[FollowedLink]:
    """Every link of a chain with its activations on the first tokens of the analysis split."""
    corpus = whole.chain.corpus
    rows = corpus.rows("analysis")[: max(1, match_tokens // corpus.context_size)]
    progress = Progress(label, len(whole.links), "links")
    for link in whole.links:
        lm, sae = whole.lm(link), whole.pull(link).sae
        sae.to(lm.device)
        parts = []
        for start in range(0, len(rows), LM_BATCH_ROWS):
            token_ids = torch.from_numpy(rows[start : start + LM_BATCH_ROWS].astype("int64"))
            x = lm.activations(token_ids)[0].flatten(0, 1)
            kept = corpus.kept(token_ids, exclude_bos=True).flatten().to(lm.device)
            parts.append(by_feature(sae.active_pairs(x[kept])))
        acts = FeatureActs.of(hstack(parts, "csr"))
        yield FollowedLink(link.number, link.checkpoint.lm_step, sae.W_dec.detach(), acts)
        progress.advance(1)


def _metrics(summary: pd.DataFrame) -> dict[str, float]:
    means = summary.set_index("architecture").filter(regex="_mean$")
    return {
        f"{name}.{str(column).removesuffix('_mean')}": float(value)
        for name, row in means.iterrows()
        for column, value in row.items()
        if pd.notna(value)
    }


def _write(tables: dict[str, pd.DataFrame], folder: Path, title: str) -> None:
    """Tables as CSV, figures as PNG and SVG."""
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    architectures_figure(tables["seeds"], title, folder / "architectures")
    along_chain_figure(tables["links"], tables["kept"], title, folder / "along_chain")
