"""Which features are explained, and at which links."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from saetrack.analysis.explanations.config import FORMED, LAST, ExplainConfig
from saetrack.analysis.meaning.classes import ABSENT
from saetrack.analysis.meaning.labels import sample_features
from saetrack.utils.errors import UserError

if TYPE_CHECKING:
    from saetrack.analysis.life_store.reader import LifeStore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """A feature that is explained at a link.

    Attributes:
        place: as it was asked for: an LM step, `last` or `formed`.
        feature: of the chain.
        link: its index.
    """

    place: str
    feature: int
    link: int


def targets_of(config: ExplainConfig, store: LifeStore) -> list[Target]:
    """What is explained, place by place; a feature that never forms is not at `formed`.

    Two names of one link (`last`, and its LM step) are one place, by the first name.

    Raises:
        UserError: there is no such feature or link.
    """
    features = _features(config, store)
    formed = store.of_chain("formation_link")
    found = []
    for place, link in _places(config.at, store).items():
        links = [int(formed[feature]) if link is None else link for feature in features]
        pairs = zip(features, links, strict=True)
        found += [Target(place, feature, link) for feature, link in pairs if link >= 0]
    if not found:
        raise UserError(f"at={list(config.at)}: of {len(features)} features none is ever formed")
    return found


def _places(at: Sequence[str], store: LifeStore) -> dict[str, int | None]:
    """The link of each place; None where each feature has its own (`formed`)."""
    found: dict[str, int | None] = {}
    known = {FORMED: None, LAST: len(store.manifest.links) - 1}
    for place in at:
        link = known[place] if place in known else _link_at(place, store)
        same = [name for name, of in found.items() if of == link]
        if same:
            log.info("at=%s: is the same link as at=%s; it is taken once", place, same[0])
        else:
            found[place] = link
    return found


def _features(config: ExplainConfig, store: LifeStore) -> list[int]:
    if config.feature is not None:
        d_sae = store.manifest.d_sae
        for feature in config.feature:
            if feature >= d_sae:
                raise UserError(f"feature={feature}: must be a number from 0 to {d_sae - 1}")
        return list(dict.fromkeys(config.feature))
    labels = store.column(len(store.manifest.links) - 1, "label")
    absent = [number for number, label in enumerate(store.manifest.labels) if label in ABSENT]
    live = np.flatnonzero(~np.isin(labels, absent))
    if len(live) < config.features:
        log.info(
            "features=%d: %d are live at the last link, all are taken", config.features, len(live)
        )
    return [int(feature) for feature in sample_features(live, config.features, config.seed)]


def _link_at(place: str, store: LifeStore) -> int:
    lm_steps = [link.lm_step for link in store.manifest.links]
    if int(place) not in lm_steps:
        raise UserError(f"at={place}: the chain has links at {', '.join(map(str, lm_steps))}")
    return lm_steps.index(int(place))
