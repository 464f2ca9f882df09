"""What a chain will be: its links with their checkpoints, budgets and identities."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from saetrack.config import TrackConfig
from saetrack.corpus import Corpus
from saetrack.files import digest
from saetrack.lm.checkpoints import Checkpoint, CheckpointSource
from saetrack.sae.training import Optimiser

# Raise when the arithmetic of training changes: identities must change with the weights.
WEIGHTS_VERSION = 1


@dataclass(frozen=True)
class Link:
    """One SAE of a chain, before it is trained.

    Attributes:
        number: place in the chain, from 0.
        checkpoint: of the LM whose residuals it is trained on.
        tokens: its training budget.
        optimiser: its learning rate and warm-up.
        identity: hash of all that determines its weights, the parent's identity among it.
        parent_identity: of the link that it starts from; None for the first.
    """

    number: int
    checkpoint: Checkpoint
    tokens: int
    optimiser: Optimiser
    identity: str
    parent_identity: str | None


@dataclass(frozen=True)
class Chain:
    """The links of a track, all identities known before any is trained."""

    name: str
    config: TrackConfig
    corpus: Corpus
    links: tuple[Link, ...]

    def label(self, link: Link) -> str:
        """A link as a person names it."""
        width = len(str(len(self.links) - 1))
        return f"link {link.number:0{width}d} · step {link.checkpoint.lm_step}"


def plan_chain(config: TrackConfig, source: CheckpointSource, corpus: Corpus) -> Chain:
    """Lay out a chain's links and their identities. Loads no LM and trains nothing.

    Raises:
        UserError: a checkpoint is neither in the cache nor to be had from the hub.
    """
    budgets = config.budgets
    links: list[Link] = []
    for checkpoint in source.resolve(list(budgets)):
        parent = links[-1].identity if links else None
        optimiser = config.later_links if links else config.first_link
        tokens = budgets[checkpoint.checkpoint_index]
        identity = _link_identity(config, corpus, checkpoint, tokens, optimiser, parent)
        links.append(Link(len(links), checkpoint, tokens, optimiser, identity, parent))
    key = digest([config.model_dump(mode="json"), source.repo, corpus.sha256, WEIGHTS_VERSION])
    name = f"{config.model}.L{config.layer}.{config.direction}.{key[:8]}"
    return Chain(name, config, corpus, tuple(links))


def _link_identity(
    config: TrackConfig,
    corpus: Corpus,
    checkpoint: Checkpoint,
    tokens: int,
    optimiser: Optimiser,
    parent: str | None,
) -> str:
    """Hash of all that determines a link's weights and metrics, and of nothing else."""
    # Of the config only what acts within one link: a longer schedule leaves earlier links alone.
    within = config.model_dump(
        mode="json",
        exclude={"model", "schedule", "corpus", "first_link", "later_links"},
    )
    return digest(
        {
            "version": WEIGHTS_VERSION,
            "parent": parent,
            "lm": [checkpoint.repo, checkpoint.commit],
            "corpus": [corpus.sha256, config.corpus.exclude_bos],
            "tokens": tokens,
            "optimiser": asdict(optimiser),
            "within": within,
        }
    )
