"""Registered chains that are looked at, and how their checkpoints are opened."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from saetrack.analysis.geometry.inputs import DecoderChain, DecoderLink
from saetrack.analysis.pipeline.config import AnalyzeConfig
from saetrack.analysis.pipeline.feature_pass import FeaturePass
from saetrack.chain.config import TrackConfig
from saetrack.chain.plan import Chain, Link, Track
from saetrack.chain.planning import find_suitable_lm, open_checkpoints, plan
from saetrack.lm.checkpoints.ahead import Ahead
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.lm.hooked import HookedLM
from saetrack.registry import PulledLink, Registry
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
    spec = find_suitable_lm(config)
    registry = Registry(settings)
    source = open_checkpoints(config, spec, settings)
    start = None
    if config.start is not None:
        start = registry.imported.identity_of(config.start, source.spec.d_model, config.d_sae)
    track = plan(config, source, settings, start)
    return Prepared(track, source, registry, choose_device(settings))


@dataclass(frozen=True)
class RegisteredChain:
    """A chain as far as it is registered.

    Attributes:
        ready: its track, prepared.
        chain: the chain.
        links: registered and wanted, ascending by LM step.
        versions: of each link, by identity.
        ahead: fetches the next link's checkpoint while one is read.
    """

    ready: Prepared
    chain: Chain
    links: list[Link]
    versions: dict[str, int]
    ahead: Ahead

    def pull(self, link: Link) -> PulledLink:
        """A link by its version."""
        return self.ready.registry.pull(self.chain.name, version=self.versions[link.identity])

    def decoders(self) -> DecoderChain:
        """Decoder rows and densities of all links, ascending."""

        def read(place: int) -> DecoderLink:
            link = self.links[place]
            pulled = self.pull(link)
            return DecoderLink(
                link.checkpoint.lm_step,
                link.checkpoint.checkpoint_index,
                pulled.sae.W_dec.detach(),
                pulled.feature_density,
            )

        return DecoderChain(len(self.links), read)

    def lm(self, link: Link, layers: tuple[int, ...] = ()) -> HookedLM:
        """A link's LM, without the blocks above the chain's hook, or the highest of other hooks."""
        config = self.chain.config
        with self.ahead.checkpoint(link.checkpoint) as folder:
            return HookedLM(
                folder,
                layers or [self.chain.layer],
                residual=config.residual,
                precision=config.lm_precision,
                device=self.ready.device,
            )

    def open(self, link: Link) -> FeaturePass:
        """A link's LM and its SAE."""
        lm = self.lm(link)
        rows = self.chain.corpus.rows("analysis")
        return FeaturePass(link.checkpoint, lm, self.pull(link).sae.to(lm.device), rows)


def registered_chains(config: AnalyzeConfig, settings: Settings) -> list[RegisteredChain]:
    """The chains that are analysed: the one that is named or those of a track, and those beside.

    Raises:
        UserError: nothing, or too little, is registered.
    """
    wanted = config.versions
    first = config.track or str(config.chain)
    found = [_registered_chain(*chain, wanted) for chain in _chains(first, settings)]
    for other in config.beside:
        found += [_registered_chain(*chain, None) for chain in _chains(other, settings)]
    return found


def controls_of(
    config: AnalyzeConfig, settings: Settings, chain: Chain
) -> dict[str, RegisteredChain]:
    """The control chains of an LM and layer that are registered; a line for each that is not."""
    found = {}
    for name, control in config.controls.items():
        if control.track.model != chain.config.model:
            continue
        candidates = _chains(control.track, settings)
        ready, other = next(
            ((ready, one) for ready, one in candidates if one.layer == chain.layer), (None, None)
        )
        if ready is None or other is None:
            continue
        versions = ready.registry.versions(other)
        if not all(link.identity in versions for link in other.links):
            log.info("control %s is left out: its chain is not registered whole", name)
            continue
        found[name] = _of(ready, other, other.links, versions)
    return found


def _chains(named: TrackConfig | str, settings: Settings) -> list[tuple[Prepared, Chain]]:
    """Those of a track, or the one of a name."""
    if isinstance(named, TrackConfig):
        ready = prepare(named, settings)
        return [(ready, chain) for chain in ready.track.chains]
    ready = prepare(Registry(settings).config_of(named), settings)
    chains = [(ready, chain) for chain in ready.track.chains if chain.name == named]
    if not chains:
        raise UserError(
            f"chain={named!r}: what it was made from (corpus, LM, code) is not what is here"
        )
    return chains


def _registered_chain(
    ready: Prepared, chain: Chain, wanted: tuple[int, ...] | None
) -> RegisteredChain:
    versions = ready.registry.versions(chain)
    links = [
        link
        for link in chain.links
        if link.identity in versions and (wanted is None or versions[link.identity] in wanted)
    ]
    if len(links) < 3:
        raise UserError(
            f"chain={chain.name!r}: {len(links)} of its {len(chain.links)} links are registered "
            "and wanted; an analysis takes 3 or more (make track trains the rest)"
        )
    return _of(ready, chain, links, versions)


def _of(
    ready: Prepared, chain: Chain, links: Iterable[Link], versions: dict[str, int]
) -> RegisteredChain:
    ascending = _ascending(links)
    ahead = Ahead(ready.source, [link.checkpoint for link in ascending])
    return RegisteredChain(ready, chain, ascending, versions, ahead)


def _ascending(links: Iterable[Link]) -> list[Link]:
    """By LM step; the links over a checkpoint that stands still in the order of training."""
    return sorted(links, key=lambda link: (link.checkpoint.lm_step, link.number))
