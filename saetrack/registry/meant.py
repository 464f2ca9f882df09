"""Which registered chain, and which of its links, a user means."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from saetrack.registry import overview
from saetrack.registry.chain_names import chains_that_begin, find_chain
from saetrack.utils.errors import UserError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from saetrack.registry.chain_run import ChainRuns
    from saetrack.registry.versions import LinkVersions

log = logging.getLogger(__name__)


def meant_chain(asked: str, versions: LinkVersions, runs: ChainRuns) -> str:
    """The whole name of the chain that is meant, by itself or by a beginning.

    Of several that begin so, the one that the preset of their LM's name trains is meant:
    `mini.L2.forward` is the chain of `saetrack track mini`, whatever was trained beside it.

    Raises:
        UserError: there is none, or more than one; then with what tells them apart.
    """
    if versions.has_chain(asked):
        return asked
    names = chains_that_begin(versions.chain_names(), asked)
    if len(names) == 1:
        return names[0]
    tracks = runs.tracks()
    if own := overview.of_preset(names, tracks):
        log.info("%s: of %d chains, that of the preset: %s", asked, len(names), own)
        return own
    of_chains = {name: versions.of_chain(name) for name in names}
    return find_chain(names, asked, overview.differences(of_chains, tracks))


def meant_version(
    asked: str,
    which: tuple[int | None, str | None, int | None],
    versions: LinkVersions,
    runs: ChainRuns,
) -> ModelVersion:
    """The version of a link, by version, alias or LM step; a chain's whole name costs one query.

    Raises:
        UserError: there is no such chain or link, or more than one.
    """
    try:
        return versions.find(asked, *which)
    except UserError:
        whole = meant_chain(asked, versions, runs)
        if whole == asked:
            raise
        return versions.find(whole, *which)
