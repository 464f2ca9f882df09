"""The registry of the settings, and a chain in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saetrack.registry import Registry


def open_chain(asked: str) -> tuple[Registry, str]:
    """The registry of the settings, and the whole name of one of its chains.

    Raises:
        UserError: no registry, or not one such chain.
    """
    from saetrack.registry import Registry
    from saetrack.utils.settings import load_settings

    registry = Registry.existing(load_settings())
    return registry, registry.find_chain(asked)
