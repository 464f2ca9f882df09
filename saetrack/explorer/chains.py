"""What the explorer asks of a registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd

    from saetrack.analysis.life_store.manifest import Manifest
    from saetrack.lm.token_texts import TokenText
    from saetrack.registry.cards import ChainCard


class Chains(Protocol):
    """Registered chains, their life stores, and their features on a text."""

    def cards(self) -> list[ChainCard]:
        """One card per chain, the one that grew last first. Asked every few seconds."""

    def lives(self, name: str) -> Path | None:
        """The folder of a chain's life store; None if the chain was not analysed."""

    def explanations(self, manifest: Manifest) -> list[dict[str, Any]]:
        """What was explained of a chain's features (`saetrack.explorer.explanations.by_run`).

        Raises:
            UserError: it cannot be read.
        """

    def token_texts(self, name: str, text: str) -> list[TokenText]:
        """What each token of a text is as text.

        Raises:
            UserError: there is no such chain, or its tokenizer cannot be loaded.
        """

    def activations(self, name: str, text: str, lm_step: int) -> pd.DataFrame:
        """The feature activations of a text at one checkpoint: (tokens, d_sae), by token text.

        Raises:
            UserError: there is no such link, or its LM cannot be loaded.
        """
