"""One registered chain, for a notebook: its table, its links, its features on text, over links."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from saetrack.analysis.contexts.datapoints import read_windows
from saetrack.analysis.contexts.top_contexts import Contexts, TopContexts
from saetrack.analysis.pipeline.own_text import activations_at, token_ids_of
from saetrack.analysis.pipeline.registered_chain import RegisteredChain, open_registered_chain
from saetrack.lm.token_texts import text_of
from saetrack.registry import PulledLink, Registry
from saetrack.utils.errors import UserError, shown
from saetrack.utils.settings import Settings, load_settings

if TYPE_CHECKING:
    from saetrack.chain.plan import Link

log = logging.getLogger(__name__)

# Contexts are kept for all features at once, so that further features cost no further pass.
KEPT_CONTEXTS = 25


class ChainView:
    """A registered chain. Reading tables and links needs the registry alone; text needs the LM.

    Attributes:
        name: of the chain.
    """

    def __init__(self, registry: Registry, name: str, settings: Settings) -> None:
        """Asks nobody yet; see `open_chain`."""
        self.name = name
        self._registry = registry
        self._settings = settings
        self._contexts: dict[int, Contexts] = {}

    def __repr__(self) -> str:
        """The name, as a notebook shows it."""
        return f"<chain {self.name}>"

    def table(self) -> pd.DataFrame:
        """One row per registered link, in the chain's order, with its held-out metrics."""
        return self._registry.links(self.name)

    def link(
        self, *, lm_step: int | None = None, alias: str | None = None, version: int | None = None
    ) -> PulledLink:
        """One link, by exactly one of LM step, alias (`first`, `final`) and version.

        Raises:
            UserError: there is no such link, or its files are not those that were registered.
        """
        return self._registry.pull(self.name, lm_step=lm_step, alias=alias, version=version)

    def decoder_row(self, feature: int) -> pd.DataFrame:
        """The decoder row of a feature at every link, (links, d_in), indexed by LM step."""
        links = self.table()
        rows = []
        for version in links["version"]:
            W_dec = self._registry.decoder(self.name, int(version)).W_dec
            _require_feature(feature, len(W_dec))
            rows.append(W_dec[feature].numpy().copy())  # a view would keep each whole dictionary
        return pd.DataFrame(np.stack(rows), index=pd.Index(links["lm_step"], name="lm_step"))

    def activations(self, text: str, *, lm_step: int) -> pd.DataFrame:
        """The feature activations of a text at one checkpoint, (tokens, d_sae).

        The text is cut into rows as the corpus is, each beginning with BOS, which is left out.

        Args:
            text: of one's own.
            lm_step: of the checkpoint; its LM and its SAE are used.

        Returns:
            A row per token, indexed by the token's text; a column per feature.

        Raises:
            UserError: there is no such link, or the text is no str or has no token.
        """
        token_ids = token_ids_of(self._registered, text)
        opened = self._registered.open(self._link(lm_step))
        return activations_at(self._registered, opened, token_ids)

    def top_contexts(self, feature: int, *, lm_step: int, k: int = 10) -> pd.DataFrame:
        """Where a feature is most active in the corpus' analysis split, at one checkpoint.

        BOS, and positions that the chain was not trained on, are left out.

        The first feature of a checkpoint costs a pass over the split, further ones nothing.

        Args:
            feature: its index.
            lm_step: of the checkpoint.
            k: how many contexts, 25 at most.

        Returns:
            `rank`, `feature_act`, and `text` with the token marked; fewer rows where the feature
            is active on fewer tokens. Of a feature that is active on none, a log line says so.

        Raises:
            UserError: there is no such link or feature, or `k` is too large or too small.
        """
        if not isinstance(k, int | np.integer) or not 1 <= k <= KEPT_CONTEXTS:
            raise UserError(f"k={shown(k)}: must be a number from 1 to {KEPT_CONTEXTS}")
        if lm_step not in self._contexts:
            opened = self._registered.open(self._link(lm_step))
            excluded = self._registered.chain.corpus.left_out(exclude_bos=True)
            collector = TopContexts(opened.sae.d_sae, KEPT_CONTEXTS, excluded=excluded)
            opened.top_contexts([collector])
            self._contexts[lm_step] = collector.result()
        contexts = self._contexts[lm_step]
        _require_feature(feature, len(contexts.rows))
        found = np.flatnonzero(contexts.rows[feature] >= 0)[:k]
        if not len(found):
            log.warning("feature %d is active on no token of the text at step %d", feature, lm_step)
        tokenizer, _ = self._registered.ready.source.tokenizer()

        def decode(ids: list[int]) -> str:
            return text_of(tokenizer, ids)

        rows, positions = contexts.rows[feature][found], contexts.positions[feature][found]
        token_rows = self._registered.chain.corpus.rows("analysis")
        return pd.DataFrame(
            {
                "rank": found + 1,
                "feature_act": contexts.feature_acts[feature][found],
                "text": read_windows(token_rows, rows, positions, decode),
            }
        )

    @cached_property
    def _registered(self) -> RegisteredChain:
        return open_registered_chain(self._registry, self.name, self._settings)

    def _link(self, lm_step: int) -> Link:
        by_step = {link.checkpoint.lm_step: link for link in self._registered.links}
        if lm_step not in by_step:
            raise UserError(f"lm_step={lm_step}: {self.name} has links at {sorted(by_step)}")
        return by_step[lm_step]


def open_chain(name: str, settings: Settings | None = None) -> ChainView:
    """A registered chain by its name, or by a beginning of it (`Registry.find_chain`).

    Args:
        name: as `saetrack chains` lists it.
        settings: where the registry is; without, those of the environment.

    Raises:
        UserError: no registry answers, or there is not one such chain.

    Example:
        >>> chain = open_chain("nano.L1.forward.s0")
        >>> chain.table()["lm_step"].tolist()
        [0, 1, 4, 16]
    """
    settings = settings or load_settings()
    registry = Registry.existing(settings)
    return ChainView(registry, registry.find_chain(name), settings)


def chains(settings: Settings | None = None) -> pd.DataFrame:
    """One row per registered chain, the one that grew last first.

    Example:
        >>> str(chains()["lm"].iloc[-1])
        'nano'
    """
    return Registry.existing(settings or load_settings()).chains()


def _require_feature(feature: int, d_sae: int) -> None:
    if not isinstance(feature, int | np.integer) or not 0 <= feature < d_sae:
        raise UserError(f"feature={shown(feature)}: must be a number from 0 to {d_sae - 1}")
