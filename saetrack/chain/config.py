"""What a track is: every number that determines the weights of its SAEs, validated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from saetrack.chain.budget import Plateau
from saetrack.chain.schedule import (
    Adaptive,
    Direction,
    Piece,
    direction_of,
    require_one_direction,
)
from saetrack.data.config import CorpusConfig
from saetrack.lm.hook import Hook, HookField
from saetrack.sae.config import (
    BatchTopKConfig,
    EncoderPrecision,
    JumpReLUConfig,
    Optimiser,
    ReLUConfig,
    TopKConfig,
    WarmStart,
)
from saetrack.utils.errors import UserError, shown
from saetrack.utils.validation import Frozen, Index, Tokens, validated


def _architecture(value: Any) -> str:
    """Of the values of `sae`; the paper's where they do not say."""
    if isinstance(value, dict):
        return f"<{value.get('architecture', 'relu')}>"
    return f"<{getattr(value, 'architecture', 'relu')}>"


SAEField = Annotated[
    Annotated[ReLUConfig, Tag("<relu>")]
    | Annotated[TopKConfig, Tag("<topk>")]
    | Annotated[BatchTopKConfig, Tag("<batchtopk>")]
    | Annotated[JumpReLUConfig, Tag("<jumprelu>")],
    Discriminator(_architecture),
]


def _schedule_form(value: Any) -> str:
    """Of the two forms of `schedule`, the one that is meant."""
    if isinstance(value, dict) and value.keys() & {"first", "last", "every", "repeat"}:
        raise UserError(
            f"schedule={shown(value)}: must be a list of pieces, such as "
            "[{first: 0, last: 9, tokens: 60000}]"
        )
    return "<adaptive>" if isinstance(value, dict | Adaptive) else "<pieces>"


# Tags in angle brackets are left out of messages (saetrack.utils.errors).
ScheduleField = Annotated[
    Annotated[tuple[Piece, ...], Field(min_length=1), Tag("<pieces>")]
    | Annotated[Adaptive, Tag("<adaptive>")],
    Discriminator(_schedule_form),
]


class EvaluationConfig(Frozen):
    """When held-out metrics are measured, and on how much. Changes no weights."""

    eval_at_fractions: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2),
        description="of a link's budget, ascending: after which it is evaluated, in addition to "
        "before its first and after its last token; close together early, where a warm start "
        "changes fastest",
    )
    matched_l0: Annotated[int, Field(gt=0)] = Field(
        default=16,
        description="active features per token at which SAEs of different sparsity are compared",
    )
    ce_tokens: Annotated[int, Field(ge=0)] = Field(
        default=40_960,
        description="held-out tokens for CE-loss recovered; 0 leaves it out, and with it the LM's "
        "blocks above the hook",
    )


class TrackConfig(Frozen):
    """One track: an LM, its hooks, a dictionary, and a chain of SAEs per hook over checkpoints.

    Example:
        >>> first = {"first": 0, "last": 0, "tokens": 8192}
        >>> TrackConfig(model="nano", layers=[1], d_sae=64, schedule=[first]).direction
        'conventional'
    """

    model: str = Field(
        description="a name of the catalogue, such as pythia-410m-deduped (`saetrack families` "
        "lists them), or a folder into which a training run writes Hugging Face checkpoints"
    )
    layers: tuple[Index, ...] = Field(
        default=(),
        description="short for hooks of the kind resid_pre, the residual stream that enters a "
        "block; one chain each, all from one pass of the LM",
    )
    hooks: tuple[HookField, ...] = Field(
        default=(),
        description="others, in addition to `layers`: resid_pre.4, attn_out.4, resid_mid.4, "
        "mlp_out.4, resid_post.4, TransformerLens' names of what block 4 reads, computes and gives",
    )
    d_sae: Annotated[int, Field(gt=0)] = Field(description="features of the dictionary")
    schedule: ScheduleField = Field(
        description="pieces, one after another, or an adaptive schedule; see below"
    )
    corpus: CorpusConfig = Field(
        default=CorpusConfig(), description="which text, and how much of it"
    )
    evaluation: EvaluationConfig = Field(
        default=EvaluationConfig(),
        description="when and at what held-out metrics are measured; changes no weights",
    )
    residual: Literal["centred", "raw"] = Field(
        default="centred",
        description="residual as in the paper (writing weights centred), or as the LM has it",
    )
    lm_precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="of the LM; training of the SAE is in float32"
    )
    encoder_precision: EncoderPrecision = Field(
        default="float32",
        description="of the SAE's dense product: bfloat16 finds the active features, whose "
        "activations are then computed in float32; only for hardware that multiplies bfloat16",
    )
    sae: SAEField = Field(
        default=ReLUConfig(),
        description="architecture of the SAEs (relu, topk, batchtopk or jumprelu) and what of it "
        "can be set",
    )
    first_link: Optimiser = Field(
        default=Optimiser(learning_rate=4e-4, warmup_steps=5000),
        description="learning rate and warm-up of a link that starts from scratch",
    )
    later_links: Optimiser = Field(
        default=Optimiser(learning_rate=4e-5, warmup_steps=3),
        description="the same of links that start from a parent",
    )
    warm_start: WarmStart = Field(
        default=WarmStart(), description="what a link takes from its parent"
    )
    batch_tokens: Tokens = Field(default=4096, description="tokens of one training step")
    buffer_tokens: Tokens = Field(
        default=524_288,
        description="tokens among which residuals are shuffled; at least two batches",
    )
    seed: Index = Field(default=0, description="of initial weights and of the order of rows")
    start: str | None = Field(
        default=None,
        description="name of an SAE that `saetrack import` brought in: the first link starts from "
        "it as later ones do from their parents; null: from scratch",
    )
    save_every_s: Annotated[float, Field(ge=0)] = Field(
        default=600,
        description="seconds after which the state of a checkpoint in training is saved again, "
        "beside the training; what a broken run loses at most. Determines no weights",
    )
    follow_s: Annotated[float, Field(ge=0)] = Field(
        default=0,
        description="of a live folder: how long to wait for another checkpoint before the track "
        "ends",
    )

    def budgets(self, lm_steps: Sequence[int]) -> list[tuple[int, int | Plateau]]:
        """Checkpoint index and training budget of each link, in the chain's order.

        Args:
            lm_steps: of the checkpoints that the LM has, in a live folder so far.
        """
        return [
            (index, piece.tokens)
            for piece in self.pieces
            for index in piece.checkpoint_indices(lm_steps)
            for _ in range(piece.repeat)
        ]

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Of the schedule; none of an adaptive one, before its checkpoints are chosen."""
        return () if isinstance(self.schedule, Adaptive) else self.schedule

    @property
    def all_hooks(self) -> list[Hook]:
        """Those of `layers` and `hooks`, from the embedding upward; one chain each."""
        of_layers = (Hook("resid_pre", layer) for layer in self.layers)
        return sorted((*of_layers, *self.hooks), key=lambda hook: hook.depth)

    @property
    def hooks_text(self) -> str:
        """`layers` and `hooks` as a config writes them, for messages."""
        given = {"layers": list(self.layers), "hooks": list(self.hooks)}
        return ", ".join(f"{name}={shown(values)}" for name, values in given.items() if values)

    @property
    def planned(self) -> list[tuple[int, int | Plateau]] | None:
        """Position (an index, or an LM step) and training budget of each link of each chain.

        None if the schedule has no end, or is adaptive. Whether the LM has such checkpoints is not
        asked.
        """
        if not self.pieces or self.pieces[-1].last is None:
            return None
        return [
            (position, piece.tokens)
            for piece in self.pieces
            for position in piece.in_order(piece.positions())
            for _ in range(piece.repeat)
        ]

    @property
    def direction(self) -> Direction:
        """How the chain runs through the LM's training: `forward`, or `reverse` (appendix I.2).

        One link from scratch is `conventional`. Controls are `frozen`: several links at one
        checkpoint, or one that starts from an imported SAE; `jump`: two checkpoints, the second
        with several links; `permuted`: a piece in random order.
        """
        return direction_of(self.pieces, from_scratch=self.start is None)

    @model_validator(mode="before")
    @classmethod
    def _loss_is_sae(cls, values: Any) -> Any:
        if isinstance(values, dict) and "loss" in values:
            raise UserError("loss: is called sae since it says which features fire, too")
        return values

    @model_validator(mode="after")
    def _features_suffice(self) -> Self:
        k, ends = getattr(self.sae, "k", 1), getattr(self.sae, "matryoshka", ())
        if k > self.d_sae:
            raise UserError(f"sae.k={k}: must be at most d_sae={self.d_sae}")
        if ends and ends[-1] >= self.d_sae:
            raise UserError(
                f"sae.matryoshka={list(ends)}: must end below d_sae={self.d_sae}, which is always "
                "the last"
            )
        return self

    @model_validator(mode="after")
    def _layers_ascend(self) -> Self:
        if list(self.layers) != sorted(set(self.layers)):
            raise UserError(f"layers={shown(list(self.layers))}: must ascend, each layer once")
        return self

    @model_validator(mode="after")
    def _hooks_differ(self) -> Self:
        hooks = self.all_hooks
        if not hooks:
            raise UserError("layers: missing; a track needs a layer, or a hook such as mlp_out.4")
        if len(set(hooks)) < len(hooks):
            raise UserError(f"{self.hooks_text}: each hook once; layers=[4] is hooks=[resid_pre.4]")
        return self

    @model_validator(mode="after")
    def _start_has_one_hook(self) -> Self:
        if self.start is not None and len(self.all_hooks) > 1:
            raise UserError(
                f"{self.hooks_text}: must be one hook, since start={self.start!r} is an "
                "SAE of one hook"
            )
        return self

    @model_validator(mode="after")
    def _is_in_one_direction(self) -> Self:
        require_one_direction(self.pieces)
        return self

    @model_validator(mode="after")
    def _buffer_holds_two_batches(self) -> Self:
        if self.buffer_tokens < 2 * self.batch_tokens:
            raise UserError(
                f"buffer_tokens={self.buffer_tokens}: must be at least twice "
                f"batch_tokens={self.batch_tokens}"
            )
        return self

    @model_validator(mode="after")
    def _validation_tokens_are_left(self) -> Self:
        schedule = self.schedule
        budgets = (
            [schedule.first_tokens, schedule.tokens]
            if isinstance(schedule, Adaptive)
            else [piece.tokens for piece in schedule]
        )
        for budget in budgets:
            if isinstance(budget, Plateau):
                rows = -(-budget.validation_tokens // self.corpus.context_size)
                left = self.corpus.train_tokens - rows * self.corpus.context_size
                if budget.max > left:
                    raise UserError(
                        f"schedule: tokens.max={budget.max}: must be at most {left}, which is "
                        f"corpus.train_tokens={self.corpus.train_tokens} without the rows on which "
                        "a plateau is looked for"
                    )
        return self

    @model_validator(mode="after")
    def _ce_tokens_are_held_out(self) -> Self:
        if self.evaluation.ce_tokens > self.corpus.held_out_tokens:
            raise UserError(
                f"evaluation.ce_tokens={self.evaluation.ce_tokens}: must be at most "
                f"corpus.held_out_tokens={self.corpus.held_out_tokens}"
            )
        return self


def load_config(values: dict[str, Any]) -> TrackConfig:
    """Validate a track's parameters.

    Raises:
        UserError: the first problem, in one line.
    """
    return validated(TrackConfig, values)
