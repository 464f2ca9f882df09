"""Registered chains that are analysed, and how their checkpoints are opened."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import torch

from saetrack.analysis.geometry.inputs import DecoderLink
from saetrack.analysis.pipeline.config import AnalyzeConfig
from saetrack.analysis.pipeline.feature_pass import FeaturePass
from saetrack.chain.config import TrackConfig
from saetrack.chain.plan import Chain, Link
from saetrack.data.config import EMBEDDED
from saetrack.data.datasets import hub_repo
from saetrack.lm.catalog.models import Checkpoint
from saetrack.lm.checkpoints.ahead import Ahead
from saetrack.lm.checkpoints.folder_layout import is_folder
from saetrack.lm.hook import Hook
from saetrack.lm.hooked import HookedLM
from saetrack.registry import PulledLink, Registry
from saetrack.registry.connection import require_made
from saetrack.registry.opened_track import OpenedTrack, open_track
from saetrack.utils.device import choose_device
from saetrack.utils.errors import UserError
from saetrack.utils.files import counted_from, user_path
from saetrack.utils.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RegisteredChain:
    """A chain as far as it is registered.

    Attributes:
        ready: its track, its LM's checkpoints, and the registry that holds it.
        device: that its LM and SAEs run on.
        chain: the chain.
        links: registered and wanted, ascending by LM step.
        versions: of each link, by identity.
        ahead: fetches the next link's checkpoint while one is read.
        standing: the one checkpoint of a chain whose LM stands still. The checkpoints of `links`
            then have the links' numbers in place of LM steps and indices.
    """

    ready: OpenedTrack
    device: torch.device
    chain: Chain
    links: list[Link]
    versions: dict[str, int]
    ahead: Ahead
    standing: Checkpoint | None = None

    def pull(self, link: Link) -> PulledLink:
        """A link by its version."""
        return self.ready.registry.pull(self.chain.name, version=self.versions[link.identity])

    def decoder(self, link: Link) -> DecoderLink:
        """A link's decoder rows, on the device, and densities; other weights are not read."""
        found = self.ready.registry.decoder(self.chain.name, self.versions[link.identity])
        at = link.checkpoint
        rows = found.W_dec.to(self.device)
        return DecoderLink(at.lm_step, at.checkpoint_index, rows, found.feature_density)

    def lm(self, link: Link, hooks: tuple[Hook, ...] = (), *, whole: bool = False) -> HookedLM:
        """A link's LM: whole, or up to the chain's hook, or to the highest of other hooks."""
        config = self.chain.config
        with self.ahead.checkpoint(self.standing or link.checkpoint) as folder:
            return HookedLM(
                folder,
                hooks or [self.chain.hook],
                residual=config.residual,
                precision=config.lm_precision,
                device=self.device,
                whole=whole,
                label=link.checkpoint.label,
            )

    def open(self, link: Link, *, whole: bool = False) -> FeaturePass:
        """A link's LM, whole or up to the hook, and its SAE."""
        lm, pulled = self.lm(link, whole=whole), self.pull(link)
        pulled.sae.to(lm.device)
        return FeaturePass(link.checkpoint, lm, pulled, self.chain.corpus.rows("analysis"))


def registered_chains(config: AnalyzeConfig, settings: Settings) -> list[RegisteredChain]:
    """The chains that are analysed: the one that is named or those of a track, and those beside.

    Raises:
        UserError: nothing, or too little, is registered.
    """
    named = config.track or str(config.chain)
    found = [_wanted(whole, config.versions) for whole in chains_of(named, settings)]
    for beside in config.beside:
        found += [_wanted(whole, None) for whole in chains_of(beside, settings)]
    return found


def replicates_of(config: AnalyzeConfig, settings: Settings) -> list[RegisteredChain]:
    """The chains that are analysed as replicates.

    Raises:
        UserError: nothing, or too little, is registered of one.
    """
    return [
        _wanted(whole, None)
        for replicate in config.replicates
        for whole in chains_of(replicate, settings)
    ]


def open_registered_chain(
    registry: Registry, name: str, settings: Settings, *, writes: bool = False
) -> RegisteredChain:
    """A chain by its name or a beginning of it, with all links that are registered.

    Args:
        registry: that holds it.
        name: or its beginning.
        settings: of that registry, and of the cache.
        writes: whether what is found is to be registered.

    Raises:
        UserError: there is not one such chain, or what it was made from is not what is here.
    """
    name = registry.find_chain(name)
    config = registry.config_of(name)
    _require_places(name, config)
    of_track = chains_of(config, settings, writes=writes)
    chains = [found for found in of_track if found.chain.name == name]
    if not chains:
        raise UserError(f"chain={name!r}: {registry.what_changed(name, of_track[0].chain)}")
    return chains[0]


def _require_places(name: str, config: TrackConfig) -> None:
    """Check that the folders that a registered track names are there.

    Raises:
        UserError: one is not; it was moved, or the command runs in another folder.
    """
    places = {"model": config.model} if is_folder(config.model) else {}
    if config.corpus.dataset != EMBEDDED and hub_repo(config.corpus.dataset) is None:
        places["corpus.dataset"] = config.corpus.dataset
    for field, place in places.items():
        if not user_path(place).exists():
            raise UserError(
                f"chain={name!r}: {field}={place!r} is not there{counted_from(place)}; put "
                "it back, or a link to it; or analyse a track's file that names its new place: "
                "saetrack analyze FILE"
            )


def controls_of(
    config: AnalyzeConfig, settings: Settings, chain: Chain
) -> dict[str, RegisteredChain]:
    """The control chains of an LM and hook that are registered; a line for each that is not."""
    found = {}
    for name, control in config.controls.items():
        left_out = f"control {name} of {chain.name} is left out:"
        if control.track.model != chain.config.model or chain.hook not in control.track.all_hooks:
            log.info("%s it is over another LM or hook", left_out)
            continue
        of_hooks = {whole.chain.hook: whole for whole in chains_of(control.track, settings)}
        whole = of_hooks[chain.hook]
        if len(whole.links) < len(whole.chain.links):
            log.info("%s its chain is not registered whole", left_out)
        elif whole.chain.name == chain.name:  # a replicate may be another one's control
            log.info("%s it is this chain itself", left_out)
        else:
            found[name] = whole
    return found


def chains_of(
    named: TrackConfig | str, settings: Settings, *, writes: bool = True
) -> list[RegisteredChain]:
    """The chains of a track, or the chain of a name, with all links that are registered.

    What is found of them is to be registered too, unless `writes` is false.
    """
    if isinstance(named, str):
        registry = Registry.existing(settings)
        return [open_registered_chain(registry, named, settings, writes=writes)]
    require_made(settings.tracking_uri)
    ready, device = open_track(named, settings, writes=writes), choose_device(settings)
    found = []
    for chain in ready.track.chains:
        versions = ready.registry.versions(chain)
        links = [link for link in chain.links if link.identity in versions]
        # By LM step; the links over a checkpoint that stands still in the order of training.
        links.sort(key=lambda link: (link.checkpoint.lm_step, link.number))
        ahead = Ahead(ready.source, [link.checkpoint for link in links])
        found.append(RegisteredChain(ready, device, chain, links, versions, ahead))
    return found


def by_links(whole: RegisteredChain) -> RegisteredChain:
    """A chain whose LM stands still by its links, not by LM steps; another one as it is."""
    is_still = len({link.checkpoint for link in whole.links}) == 1
    return _standing(whole, whole.links) if is_still and whole.standing is None else whole


def _wanted(whole: RegisteredChain, versions: tuple[int, ...] | None) -> RegisteredChain:
    """The links that are analysed: registered, wanted, and the last one at each checkpoint."""
    links = [
        link
        for link in whole.links
        if versions is None or whole.versions[link.identity] in versions
    ]
    by_checkpoint = {link.checkpoint: link for link in links}
    if len(by_checkpoint) == 1 and len(links) >= 3:
        return _standing(whole, links)
    if len(by_checkpoint) < 3:
        at = "" if len(links) < 3 else f", at {len(by_checkpoint)} different checkpoints"
        raise UserError(
            f"chain={whole.chain.name!r}: {len(links)} of its {len(whole.chain.links)} links are "
            f"registered and wanted{at}; an analysis takes links at 3 checkpoints or more, or 3 at "
            "one (`make track` trains the rest)"
        )
    ahead = Ahead(whole.ready.source, list(by_checkpoint))
    return replace(whole, links=list(by_checkpoint.values()), ahead=ahead)


def _standing(whole: RegisteredChain, links: list[Link]) -> RegisteredChain:
    """A control whose LM stands still, as the chain that is analysed: by links, not by LM steps."""
    standing = links[0].checkpoint
    numbered = []
    for link in links:
        at = replace(standing, lm_step=link.number, checkpoint_index=link.number)
        numbered.append(replace(link, checkpoint=at))
    ahead = Ahead(whole.ready.source, [standing])
    return replace(whole, links=numbered, ahead=ahead, standing=standing)
