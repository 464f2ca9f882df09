"""A chain's page in the registry: aliases, curves, table and figure, brought up to date."""

from __future__ import annotations

import tempfile
from pathlib import Path

from saetrack.chain.plan import Chain
from saetrack.registry import Registry
from saetrack.utils.figures.chain import chain_figure


def update_chain_page(registry: Registry, chain: Chain) -> None:
    """Draw a chain's figure from its registered links, and let the registry keep it."""
    with tempfile.TemporaryDirectory() as folder:
        chain_figure(registry.table(chain), chain.name, Path(folder) / "chain")
        registry.finish(chain, Path(folder))
