"""What a track will be: its chains, their links with checkpoints, budgets and identities."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from typing import Any

from saetrack.chain.budget import Plateau, most_tokens
from saetrack.chain.compatibility import absent_checkpoints
from saetrack.chain.config import TrackConfig
from saetrack.data.corpus import Corpus
from saetrack.data.exclusion import NOTHING
from saetrack.lm.catalog.models import Checkpoint
from saetrack.lm.checkpoints.folder import FolderSource
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.lm.hook import Hook
from saetrack.sae.config import Optimiser
from saetrack.utils.errors import UserError
from saetrack.utils.files import content_hash

log = logging.getLogger(__name__)

# Fields of a track that belong to no single chain of it, or only to how it is run.
OUTSIDE_A_CHAIN = frozenset({"layers", "hooks", "save_every_s", "follow_s"})

# Raise when the arithmetic of training changes: identities must change with the weights.
WEIGHTS_VERSION = 6


@dataclass(frozen=True)
class Link:
    """One SAE of a chain, before it is trained.

    Attributes:
        number: position in the chain, from 0.
        checkpoint: of the LM on whose residuals it is trained.
        budget: the tokens that it trains on, or when it ends.
        optimiser: its learning rate and warm-up.
        identity: hash of everything that determines its weights, the parent's identity included.
        parent_identity: of the link, or of the imported SAE, that it starts from; None if it
            starts from scratch.
    """

    number: int
    checkpoint: Checkpoint
    budget: int | Plateau
    optimiser: Optimiser
    identity: str
    parent_identity: str | None

    @property
    def tokens(self) -> int:
        """That it trains on, at most where it ends at a plateau."""
        return most_tokens(self.budget)


@dataclass(frozen=True)
class Chain:
    """The links of one hook; all identities are known before any link is trained.

    Attributes:
        name: of the chain in the registry.
        lm_name: of its LM.
        hook: at which its SAEs read the LM.
        config: of the track.
        corpus: the rows that its links are trained and evaluated on.
        links: in the order of training.
        lacking: which checkpoints it does not have, since something is wrong with them, and of
            which no link has a note; a line each.
    """

    name: str
    lm_name: str
    hook: Hook
    config: TrackConfig
    corpus: Corpus
    links: tuple[Link, ...]
    lacking: tuple[str, ...] = field(default=(), compare=False)

    @property
    def layer(self) -> int:
        """Of the hook."""
        return self.hook.layer

    @property
    def hook_name(self) -> str:
        """TransformerLens' name of the hook."""
        return self.hook.name

    def label(self, link: Link) -> str:
        """A link as a person names it."""
        width = max(2, len(str(len(self.links) - 1)))
        return f"link {link.number:0{width}d} · step {link.checkpoint.lm_step}"


@dataclass(frozen=True)
class CheckpointJob:
    """The links of one checkpoint, one per hook: the LM runs once for all of them.

    Attributes:
        checkpoint: of the LM.
        links: each with its chain, by ascending depth of the hook.
        key: names the state of its training on disk.
    """

    checkpoint: Checkpoint
    links: tuple[tuple[Chain, Link], ...]
    key: str

    @property
    def budget(self) -> int | Plateau:
        """Of each of its links."""
        return self.links[0][1].budget

    @property
    def tokens(self) -> int:
        """That each of its links trains on, at most where they end at a plateau."""
        return self.links[0][1].tokens


@dataclass(frozen=True)
class Track:
    """One chain per hook, over the same checkpoints with the same budgets."""

    config: TrackConfig
    chains: tuple[Chain, ...]

    @property
    def jobs(self) -> list[CheckpointJob]:
        """The track by checkpoint, in the order of training."""
        jobs = []
        for links in zip(*(chain.links for chain in self.chains), strict=True):
            key = content_hash([link.identity for link in links])
            pairs = tuple(zip(self.chains, links, strict=True))
            jobs.append(CheckpointJob(links[0].checkpoint, pairs, key))
        return jobs


Schedule = list[tuple[Checkpoint, int | Plateau]]


def scheduled(config: TrackConfig, source: CheckpointSource) -> Schedule:
    """Checkpoint and training budget of each link, in the chain's order; downloads nothing.

    Raises:
        UserError: there is no checkpoint yet, or one is neither in the cache nor available from
            the hub.
    """
    budgets = config.budgets(source.spec.lm_steps)
    absent = absent_checkpoints(config, source.spec)  # of a folder: others were refused for it
    if not budgets:
        raise UserError(f"schedule: {absent or f'{config.model} has none of its checkpoints yet'}")
    if absent:
        log.warning("schedule: %s; the chain goes over those that there are", absent)
    indices = list(dict.fromkeys(index for index, _ in budgets))
    checkpoints = dict(zip(indices, source.resolve(indices), strict=True))
    if config.direction == "reverse":
        ends = (checkpoints[index].lm_step for index in (indices[0], indices[-1]))
        log.info("schedule: backward, from LM step %d to %d", *ends)
    return [(checkpoints[index], budget) for index, budget in budgets]


def plan_track(
    config: TrackConfig,
    source: CheckpointSource,
    schedule: Schedule,
    corpus: Corpus,
    start: str | None = None,
) -> Track:
    """Lay out all chains of a track.

    Args:
        config: of the track.
        source: of its checkpoints.
        schedule: from `scheduled`.
        corpus: its text in tokens.
        start: identity of the imported SAE that the config names, if it names one.
    """
    chains = [
        _plan_chain(config, hook, source, corpus, schedule, start) for hook in config.all_hooks
    ]
    return Track(config, tuple(chains))


def _plan_chain(
    config: TrackConfig,
    hook: Hook,
    source: CheckpointSource,
    corpus: Corpus,
    schedule: Schedule,
    start: str | None,
) -> Chain:
    links: list[Link] = []
    for checkpoint, budget in schedule:
        parent = links[-1].identity if links else start
        optimiser = config.first_link if parent is None else config.later_links
        lm = (source.lm_identity, checkpoint.commit)
        identity = _link_identity(config, hook, corpus, lm, budget, optimiser, parent)
        links.append(Link(len(links), checkpoint, budget, optimiser, identity, parent))
    return Chain(
        _chain_name(config, hook, source, corpus, start, schedule[0][0].lm_step),
        source.spec.name,
        hook,
        config,
        corpus,
        tuple(links),
        _lacking(config, source, schedule),
    )


def _lacking(config: TrackConfig, source: CheckpointSource, schedule: Schedule) -> tuple[str, ...]:
    """What a folder leaves out, or waits for, of a schedule that goes on for more than there is."""
    if not isinstance(source, FolderSource):
        return ()
    is_open = bool(config.pieces) and config.pieces[-1].last is None
    if not is_open and not absent_checkpoints(config, source.spec):
        return ()
    noted = {note for checkpoint, _ in schedule for note in checkpoint.notes}
    return tuple(line for line in source.lines if line not in noted)


def _chain_name(
    config: TrackConfig,
    hook: Hook,
    source: CheckpointSource,
    corpus: Corpus,
    start: str | None,
    first_lm_step: int,
) -> str:
    """A readable part, then a hash of everything in which two chains may differ.

    The hash leaves out the other hooks of the track, the path of a folder (what its first
    checkpoint contains is the LM), and the name that an imported SAE has here.
    """
    of_config = config.model_dump(mode="json", exclude={"model", "start", *OUTSIDE_A_CHAIN})
    of_start = [] if start is None else [start]
    lm = source.lm_identity
    key = content_hash([of_config, hook.key, lm, corpus.sha256, WEIGHTS_VERSION, *of_start])
    kind: str = config.direction
    if kind in ("conventional", "frozen"):
        kind += f"-step{first_lm_step}"
    return f"{source.spec.name}.{hook.short}.{kind}.s{config.seed}.{key[:8]}"


def _link_identity(
    config: TrackConfig,
    hook: Hook,
    corpus: Corpus,
    lm: tuple[str, str],
    budget: int | Plateau,
    optimiser: Optimiser,
    parent: str | None,
) -> str:
    """Hash of everything that determines a link's weights and metrics, and of nothing else."""
    # Of the config only what acts within this link: a longer schedule does not change earlier
    # links, and other hooks do not change this one.
    left_out = {"model", "start", "schedule", "corpus", "first_link", "later_links"}
    left_out |= OUTSIDE_A_CHAIN
    if parent is None:
        left_out.add("warm_start")
    text: list[Any] = [corpus.sha256, config.corpus.exclude_bos]
    if corpus.excluded != NOTHING:
        text.append(asdict(corpus.excluded))
    return content_hash(
        {
            "version": WEIGHTS_VERSION,
            "parent": parent,
            "layer": hook.key,
            "lm": lm,
            "corpus": text,
            "tokens": budget.identity() if isinstance(budget, Plateau) else budget,
            "optimiser": asdict(optimiser),
            "within": config.model_dump(mode="json", exclude=left_out),
        }
    )
