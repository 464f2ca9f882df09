"""Registered chains that are analysed, and how their checkpoints are opened."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from saetrack.analysis.geometry.inputs import DecoderLink
from saetrack.analysis.pipeline.config import AnalyzeConfig
from saetrack.analysis.pipeline.feature_pass import FeaturePass
from saetrack.chain.config import TrackConfig
from saetrack.chain.plan import Chain, Link, Track
from saetrack.lm.catalog.models import Checkpoint
from saetrack.lm.checkpoints.ahead import Ahead
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.lm.hooked import HookedLM
from saetrack.registry import PulledLink, Registry
from saetrack.registry.opened_track import open_track
from saetrack.utils.device import choose_device
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A track, where its checkpoints come from, and the registry that holds its chains."""

    track: Track
    source: CheckpointSource
    registry: Registry
    device: torch.device


def prepare(config: TrackConfig, settings: Settings) -> Prepared:
    """Plan a track in order to read it.

    Raises:
        UserError: something is out of reach, or asks for what does not exist.
    """
    opened = open_track(config, settings)
    return Prepared(opened.track, opened.source, opened.registry, choose_device(settings))


@dataclass(frozen=True)
class RegisteredChain:
    """A chain as far as it is registered.

    Attributes:
        ready: its track, prepared.
        chain: the chain.
        links: registered and wanted, ascending by LM step.
        versions: of each link, by identity.
        ahead: fetches the next link's checkpoint while one is read.
        standing: the one checkpoint of a chain whose LM stands still. The checkpoints of `links`
            then have the links' numbers in place of LM steps and indices.
    """

    ready: Prepared
    chain: Chain
    links: list[Link]
    versions: dict[str, int]
    ahead: Ahead
    standing: Checkpoint | None = None

    def pull(self, link: Link) -> PulledLink:
        """A link by its version."""
        return self.ready.registry.pull(self.chain.name, version=self.versions[link.identity])

    def decoder(self, link: Link) -> DecoderLink:
        """A link's decoder rows and densities; its other weights are not read."""
        found = self.ready.registry.decoder(self.chain.name, self.versions[link.identity])
        at = link.checkpoint
        return DecoderLink(at.lm_step, at.checkpoint_index, found.W_dec, found.feature_density)

    def lm(self, link: Link, layers: tuple[int, ...] = ()) -> HookedLM:
        """A link's LM, without the blocks above the chain's hook, or the highest of other hooks."""
        config = self.chain.config
        with self.ahead.checkpoint(self.standing or link.checkpoint) as folder:
            return HookedLM(
                folder,
                layers or [self.chain.layer],
                residual=config.residual,
                precision=config.lm_precision,
                device=self.ready.device,
            )

    def open(self, link: Link, pulled: PulledLink | None = None) -> FeaturePass:
        """A link's LM and its SAE."""
        lm = self.lm(link)
        pulled = self.pull(link) if pulled is None else pulled
        pulled.sae.to(lm.device)
        return FeaturePass(link.checkpoint, lm, pulled, self.chain.corpus.rows("analysis"))


def registered_chains(config: AnalyzeConfig, settings: Settings) -> list[RegisteredChain]:
    """The chains that are analysed: the one that is named or those of a track, and those beside.

    Raises:
        UserError: nothing, or too little, is registered.
    """
    named = config.track or str(config.chain)
    found = [
        _open(prepared, chain, config.versions) for prepared, chain in _chains(named, settings)
    ]
    for named_beside in config.beside:
        found += [_open(prepared, chain) for prepared, chain in _chains(named_beside, settings)]
    return found


def open_registered_chain(registry: Registry, name: str, settings: Settings) -> RegisteredChain:
    """A chain by its name.

    Raises:
        UserError: there is no such chain, or what it was made from is not what is here.
    """
    ((prepared, chain),) = _planned_chain(registry, name, settings)
    versions = prepared.registry.versions(chain)
    links = [link for link in chain.links if link.identity in versions]
    return _registered_chain(prepared, chain, links, versions)


def controls_of(
    config: AnalyzeConfig, settings: Settings, chain: Chain
) -> dict[str, RegisteredChain]:
    """The control chains of an LM and layer that are registered; a line for each that is not."""
    found = {}
    for name, control in config.controls.items():
        if control.track.model != chain.config.model or chain.layer not in control.track.layers:
            continue
        ((ready, planned),) = [
            (ready, planned)
            for ready, planned in _chains(control.track, settings)
            if planned.layer == chain.layer
        ]
        versions = ready.registry.versions(planned)
        if not all(link.identity in versions for link in planned.links):
            log.info("control %s is left out: its chain is not registered whole", name)
            continue
        found[name] = _registered_chain(ready, planned, planned.links, versions)
    return found


def _chains(named: TrackConfig | str, settings: Settings) -> list[tuple[Prepared, Chain]]:
    """The chains of a track, or the chain of a name."""
    if isinstance(named, TrackConfig):
        ready = prepare(named, settings)
        return [(ready, chain) for chain in ready.track.chains]
    return _planned_chain(Registry(settings), named, settings)


def _planned_chain(
    registry: Registry, name: str, settings: Settings
) -> list[tuple[Prepared, Chain]]:
    ready = prepare(registry.config_of(name), settings)
    chains = [(ready, chain) for chain in ready.track.chains if chain.name == name]
    if not chains:
        raise UserError(
            f"chain={name!r}: what it was made from (corpus, LM, code) is not what is here"
        )
    return chains


def _open(ready: Prepared, chain: Chain, wanted: tuple[int, ...] | None = None) -> RegisteredChain:
    """The links that are analysed: registered, wanted, and the last one at each checkpoint."""
    versions = ready.registry.versions(chain)
    links = [
        link
        for link in chain.links
        if link.identity in versions and (wanted is None or versions[link.identity] in wanted)
    ]
    by_checkpoint = {link.checkpoint: link for link in links}
    if len(by_checkpoint) == 1 and len(links) >= 3:
        return _standing_chain(ready, chain, links, versions)
    if len(by_checkpoint) < 3:
        at = "" if len(links) < 3 else f", at {len(by_checkpoint)} different checkpoints"
        raise UserError(
            f"chain={chain.name!r}: {len(links)} of its {len(chain.links)} links are registered "
            f"and wanted{at}; an analysis takes links at 3 checkpoints or more, or 3 at one "
            "(`make track` trains the rest)"
        )
    return _registered_chain(ready, chain, by_checkpoint.values(), versions)


def _standing_chain(
    ready: Prepared, chain: Chain, links: list[Link], versions: dict[str, int]
) -> RegisteredChain:
    """A control whose LM stands still, as the chain that is analysed: by links, not by LM steps."""
    standing = links[0].checkpoint
    numbered = []
    for link in links:
        at = replace(standing, lm_step=link.number, checkpoint_index=link.number)
        numbered.append(replace(link, checkpoint=at))
    ahead = Ahead(ready.source, [standing])
    return RegisteredChain(ready, chain, numbered, versions, ahead, standing)


def _registered_chain(
    ready: Prepared, chain: Chain, links: Iterable[Link], versions: dict[str, int]
) -> RegisteredChain:
    # By LM step; the links over a checkpoint that stands still in the order of training.
    ascending = sorted(links, key=lambda link: (link.checkpoint.lm_step, link.number))
    ahead = Ahead(ready.source, [link.checkpoint for link in ascending])
    return RegisteredChain(ready, chain, ascending, versions, ahead)
