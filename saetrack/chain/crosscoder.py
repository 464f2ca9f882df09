"""The rival of a chain, a crosscoder over the same checkpoints: what determines its weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

from pydantic import Field

from saetrack.chain.plan import WEIGHTS_VERSION, Chain
from saetrack.data.exclusion import NOTHING
from saetrack.lm.catalog.models import Checkpoint
from saetrack.sae.config import Optimiser, Reconstruction, ReLUConfig
from saetrack.utils.files import content_hash
from saetrack.utils.validation import Frozen, Tokens

# Raise when a crosscoder's weights or metrics change: it is then trained anew.
CROSSCODER_VERSION = 1


class CrosscoderConfig(Frozen):
    """How a crosscoder is trained; all else is as the chain's: tokens' order, batches, features."""

    tokens: Tokens = Field(description="training tokens; each passes through every checkpoint")
    l1_coefficient: Annotated[float, Field(ge=0)] = Field(
        description="weight of the penalty: activations times the summed norms of decoder rows"
    )
    reconstruction: Reconstruction = Field(
        default="mse",
        description="as of `sae`, of the residuals of all checkpoints side by side, each divided "
        "by its spread",
    )
    learning_rate: Annotated[float, Field(gt=0)] = Field(description="of Adam")
    warmup_steps: Annotated[int, Field(ge=0)] = Field(
        default=100, description="over which the learning rate grows from 0"
    )

    @property
    def sae(self) -> ReLUConfig:
        """What is minimised."""
        return ReLUConfig(
            l1_coefficient=self.l1_coefficient,
            reconstruction=self.reconstruction,
            penalty="decoder_norm",
        )

    @property
    def optimiser(self) -> Optimiser:
        """Learning rate and warm-up."""
        return Optimiser(learning_rate=self.learning_rate, warmup_steps=self.warmup_steps)


@dataclass(frozen=True)
class CrosscoderPlan:
    """A crosscoder before it is trained.

    Attributes:
        chain: whose checkpoints, hook, corpus, `d_sae`, batches and seed it has.
        config: of its training.
        checkpoints: of the chain's links, in their order.
        identity: hash of everything that determines its weights and metrics.
    """

    chain: Chain
    config: CrosscoderConfig
    checkpoints: tuple[Checkpoint, ...]
    identity: str

    @property
    def title(self) -> str:
        """The name of its run in MLflow."""
        of = self.chain.hook.short
        return f"crosscoder · {self.chain.lm_name} {of} · seed {self.chain.config.seed}"


def plan_crosscoder(chain: Chain, config: CrosscoderConfig, lm_identity: str) -> CrosscoderPlan:
    """Lay out the rival of a chain.

    Args:
        chain: each of its checkpoints counts once.
        config: of the training.
        lm_identity: of the source of the chain's checkpoints.
    """
    checkpoints = tuple(dict.fromkeys(link.checkpoint for link in chain.links))
    track, corpus = chain.config, chain.corpus
    within = {"seed", "d_sae", "residual", "lm_precision", "batch_tokens", "buffer_tokens"}
    identity = content_hash(
        {
            "version": [WEIGHTS_VERSION, CROSSCODER_VERSION],
            "crosscoder": config.model_dump(mode="json"),
            "layer": chain.hook.key,
            "lm": [lm_identity, [checkpoint.commit for checkpoint in checkpoints]],
            "corpus": [corpus.sha256, track.corpus.exclude_bos]
            + ([] if corpus.excluded == NOTHING else [asdict(corpus.excluded)]),
            "within": track.model_dump(mode="json", include={*within, "evaluation"}),
        }
    )
    return CrosscoderPlan(chain, config, checkpoints, identity)
