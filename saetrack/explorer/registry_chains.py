"""The chains of a registry, as the explorer asks for them."""

from __future__ import annotations

import gc
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saetrack.explorer.explanations import FoundExplanations
from saetrack.registry import Registry
from saetrack.registry.cards import ChainCard, ChainCards
from saetrack.utils.errors import UserError, first_line
from saetrack.utils.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from saetrack.analysis.life_store.manifest import Manifest
    from saetrack.analysis.pipeline.feature_pass import FeaturePass
    from saetrack.analysis.pipeline.registered_chain import RegisteredChain
    from saetrack.lm.token_texts import TokenText

# A new analysis is on the pages after so long.
LOOKED_S = 10.0
CHECKPOINTS_KEPT = 2


class RegistryChains:
    """See `saetrack.explorer.chains.Chains`. Threads may ask at the same time."""

    def __init__(self, settings: Settings) -> None:
        """Connect.

        Raises:
            UserError: nothing answers at the tracking address.
        """
        self._settings = settings
        self._registry = Registry.existing(settings)
        self._cards = ChainCards(settings)
        self._explanations = FoundExplanations(self._registry.reports.explanations)
        self._lives: dict[str, tuple[float, Path | None]] = {}
        self._lock = threading.Lock()  # of all below
        self._chains: dict[str, RegisteredChain] = {}
        self._opened: OrderedDict[tuple[str, int], FeaturePass] = OrderedDict()

    def cards(self) -> list[ChainCard]:
        """One card per chain, the one that grew last first."""
        return self._cards.all()

    def find_chain(self, asked: str) -> str:
        """See `saetrack.registry.Registry.find_chain`."""
        return self._registry.find_chain(asked)

    def require_files(self, name: str) -> None:
        """See `saetrack.registry.Registry.require_files_of`."""
        self._registry.require_files_of(name)

    def lives(self, name: str) -> Path | None:
        """The folder of a chain's life store; None if it was not analysed, or long ago."""
        looked_s, found = self._lives.get(name, (-LOOKED_S, None))
        if time.monotonic() - looked_s > LOOKED_S:
            analysis = self._cards.analysis(name)
            has_lives = analysis is not None and analysis.has_lives
            found = self._registry.reports.lives_folder(name) if has_lives else None
            if has_lives:  # names of chains that do not exist are not kept
                self._lives[name] = time.monotonic(), found
        return found

    def explanations(self, manifest: Manifest) -> list[dict[str, Any]]:
        """What was explained of a chain's features, by runs beside its analysis.

        Raises:
            UserError: it cannot be read.
        """
        analysis = self._cards.analysis(manifest.name)
        return self._explanations.of(manifest, analysis.run.run_id if analysis else None)

    def activations(self, name: str, text: str, lm_step: int) -> pd.DataFrame:
        """The feature activations of a text at one checkpoint, (tokens, d_sae).

        The checkpoints that were asked for last stay in memory, with their LMs.

        Raises:
            UserError: there is no such link, or its LM cannot be loaded.
        """
        from saetrack.analysis.pipeline.own_text import activations_at, token_ids_of

        with self._lock, _in_a_line(f"chain={name!r}, lm_step={lm_step}"):
            registered = self._chain(name, lm_step)
            token_ids = token_ids_of(registered, text)
            opened = self._open(registered, lm_step)
            return activations_at(registered, opened, token_ids)

    def token_texts(self, name: str, text: str) -> list[TokenText]:
        """What each token of a text is as text.

        Raises:
            UserError: there is no such chain, or its tokenizer cannot be loaded.
        """
        from saetrack.analysis.pipeline.own_text import token_ids_of, token_texts_of

        with self._lock, _in_a_line(f"chain={name!r}"):
            registered = self._chain(name)
            return token_texts_of(registered, token_ids_of(registered, text))

    def _chain(self, name: str, lm_step: int | None = None) -> RegisteredChain:
        """A chain as far as it is registered; looked up again for a link that came since."""
        from saetrack.analysis.pipeline.registered_chain import open_registered_chain

        found = self._chains.get(name)
        if found is None or lm_step not in {None, *_lm_steps(found)}:
            if name not in self._registry.chain_names():
                raise UserError(f"chain={name!r}: is not registered")
            found = self._chains[name] = open_registered_chain(self._registry, name, self._settings)
        if lm_step not in {None, *_lm_steps(found)}:
            raise UserError(f"lm_step={lm_step}: {name} has links at {sorted(_lm_steps(found))}")
        return found

    def _open(self, registered: RegisteredChain, lm_step: int) -> FeaturePass:
        key = registered.chain.name, lm_step
        if key not in self._opened:
            while len(self._opened) >= CHECKPOINTS_KEPT:  # makes room before the next one comes
                self._opened.popitem(last=False)
                gc.collect()
            # Of several links over one checkpoint the last one, as an analysis takes it.
            link = [one for one in registered.links if one.checkpoint.lm_step == lm_step][-1]
            self._opened[key] = registered.open(link)
        self._opened.move_to_end(key)
        return self._opened[key]


@contextmanager
def _in_a_line(what: str) -> Iterator[None]:
    """Whatever goes wrong is a UserError: hubs, drivers and GPUs raise errors of many kinds."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{what}: its LM cannot be loaded here: "
            f"{type(error).__name__}: {first_line(error)[:200]}"
        ) from error


def _lm_steps(registered: RegisteredChain) -> set[int]:
    return {link.checkpoint.lm_step for link in registered.links}
