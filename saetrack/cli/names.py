"""The registry of the settings, and a chain in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saetrack.registry import Registry


def open_chain(
    asked: str, *, reads_files: bool = True, writes: bool = False
) -> tuple[Registry, str]:
    """The registry of the settings, and the whole name of one of its chains.

    Args:
        asked: the name, or the beginning of it.
        reads_files: whether more is needed than what the registry itself holds.
        writes: whether something is to be added to its files.

    Raises:
        UserError: no registry, not one such chain, or its files are not on this machine, or
            are those of another registry, to which nothing may be added.
    """
    from saetrack.registry import Registry
    from saetrack.utils.settings import load_settings

    registry = Registry.existing(load_settings())
    name = registry.find_chain(asked)
    if reads_files:
        registry.require_files_of(name, writes=writes)
    return registry, name
