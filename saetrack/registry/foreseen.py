"""What a track's links will be, and which are registered: as far as it is known without work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from saetrack.chain.adaptive import in_pieces, known_choice
from saetrack.chain.plan import Schedule, Track, plan_track
from saetrack.chain.schedule import Adaptive
from saetrack.data.corpus import corpus_here
from saetrack.lm.catalog.models import UNKNOWN, ModelSpec
from saetrack.lm.checkpoints.folder import FolderSource
from saetrack.lm.checkpoints.hub_source import HubSource
from saetrack.lm.open import source_here
from saetrack.registry.connection import is_made
from saetrack.registry.opened_track import (
    CheckedTrack,
    check_track,
    imported_start,
    without_lost,
)
from saetrack.registry.store import Registry

if TYPE_CHECKING:
    from saetrack.chain.budget import Plateau
    from saetrack.chain.config import TrackConfig
    from saetrack.utils.settings import Settings

# A larger text of this machine is not read only to tell what it is.
READ_BYTES = 4e9


@dataclass(frozen=True)
class Foreseen:
    """The links of a track, as `open_track` would find them.

    Attributes:
        spec: its LM, with the checkpoints that there are, or were.
        budgets: checkpoint's index, and budget, of each link of a chain.
        registered: links of all chains that are registered, so that they need no training.
        is_exact: whether it is so many, rather than so many at most: a chain follows the content of
            its text and of its checkpoints, which may not be known yet.
        lines: checkpoints that are left out or waited for, and why.
    """

    spec: ModelSpec
    budgets: list[tuple[int, int | Plateau]]
    registered: int
    is_exact: bool
    lines: tuple[str, ...] = ()


def foresee(config: TrackConfig, settings: Settings) -> Foreseen:
    """Look at a track. Trains and downloads nothing.

    Raises:
        UserError: as `open_track`, as far as what it needs is here.
    """
    checked = check_track(config, settings)
    source = source_here(checked.spec, settings.cache_dir)
    spec = checked.spec if source is None else source.spec
    lines = source.lines if isinstance(source, FolderSource) else ()
    pieces = in_pieces(config, settings.cache_dir, spec.lm_steps)
    budgets = pieces.budgets(spec.lm_steps) if spec.is_listed else (pieces.planned or [])
    trained: frozenset[str] = frozenset()
    n_alike = 0
    if is_made(settings.tracking_uri):
        trained, n_alike = Registry.existing(settings).registered(pieces)
    n_alike = min(n_alike, len(budgets) * len(config.all_hooks))
    track = None
    if source is not None and budgets and _is_chosen(config, source.lm_identity, settings):
        track = _track(config, pieces, source, budgets, checked, settings)
    if source is None or track is None:
        return Foreseen(spec, budgets, n_alike, n_alike == 0, lines)
    start = track.chains[0].links[0].parent_identity
    track = without_lost(track, source, start, lambda link: link.identity in trained)
    links = [link for chain in track.chains for link in chain.links]
    n_registered = sum(link.identity in trained for link in links)
    is_exact = n_alike <= n_registered or all(link.checkpoint.commit != UNKNOWN for link in links)
    for link in links:
        if link.identity not in trained:
            lines += link.checkpoint.notes
    return Foreseen(
        spec,
        [(job.checkpoint.checkpoint_index, job.budget) for job in track.jobs],
        n_registered if is_exact else min(n_alike, len(links)),
        is_exact,
        tuple(dict.fromkeys(lines)),
    )


def _is_chosen(config: TrackConfig, lm_identity: str, settings: Settings) -> bool:
    """Whether the checkpoints of an adaptive schedule are; those of any other are named."""
    if not isinstance(config.schedule, Adaptive):
        return True
    choice = known_choice(config, settings.cache_dir)
    return choice is not None and choice.lm == lm_identity


def _track(
    config: TrackConfig,
    pieces: TrackConfig,
    source: FolderSource | HubSource,
    budgets: list[tuple[int, int | Plateau]],
    checked: CheckedTrack,
    settings: Settings,
) -> Track | None:
    """The track with the identities of its links; None if it is not known which text it reads."""
    if checked.tokenizer is None:
        return None
    corpus = corpus_here(config.corpus, *checked.tokenizer, settings.cache_dir, READ_BYTES)
    if corpus is None:
        return None
    start = None
    if config.start is not None:
        imported = Registry.existing(settings).imported
        start = imported.identity_of(*imported_start(config, checked.spec))
    resolve = source.resolve_here if isinstance(source, HubSource) else source.resolve
    indices = list(dict.fromkeys(index for index, _ in budgets))
    checkpoints = dict(zip(indices, resolve(indices), strict=True))
    schedule: Schedule = [(checkpoints[index], budget) for index, budget in budgets]
    return plan_track(pieces, source, schedule, corpus, start)
