"""What a track IS: every number that determines the weights of its SAEs, validated."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from saetrack.errors import UserError, one_line
from saetrack.fit import require_fit
from saetrack.live import find_spec, is_folder
from saetrack.sae.objective import Objective
from saetrack.sae.sparse import EncoderPrecision
from saetrack.sae.training import Optimiser, Revival
from saetrack.sae.warm_start import Carry

# Names of corpora on the hub; `mini` is the embedded text, anything else a local file or folder.
HUB_DATASETS = {
    "pile": "EleutherAI/the_pile_deduplicated",
    "openwebtext": "Skylion007/openwebtext",
}

Tokens = Annotated[int, Field(gt=0)]
Index = Annotated[int, Field(ge=0)]
Direction = Literal["forward", "reverse", "conventional", "frozen"]


class Frozen(BaseModel):
    """Immutable, and strict about names that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CorpusConfig(Frozen):
    """Which text, and how much of each split. The splits are disjoint by document."""

    dataset: str = Field(
        default="pile",
        description="pile, openwebtext, mini (embedded), or a path to .txt or .jsonl files",
    )
    context_size: Annotated[int, Field(ge=2)] = 128
    train_tokens: Tokens = 300_000_000
    held_out_tokens: Tokens = 262_144
    analysis_tokens: Tokens = 4_194_304
    exclude_bos: bool = Field(
        default=False,
        description="leave BOS positions out of training and metrics; the authors keep them",
    )

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, value: str) -> str:
        if value != "mini" and value not in HUB_DATASETS and not Path(value).expanduser().exists():
            known = ", ".join(["mini", *HUB_DATASETS])
            raise ValueError(f"unknown dataset; must be {known}, or a path that exists")
        return value

    def text_fields(self) -> dict[str, Any]:
        """The fields that determine the tokens on disk."""
        return self.model_dump(exclude={"exclude_bos"})


class EvaluationConfig(Frozen):
    """When and at what the held-out metrics are measured. Changes no weights."""

    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2),
        description="of a link's budget, ascending: where it is evaluated besides before its first "
        "and after its last token; close together early, where a warm start changes fastest",
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


class Piece(Frozen):
    """One straight piece of a schedule: every `stride`-th checkpoint from `first` to `last`.

    A `last` before `first` runs backward.
    """

    first: Index
    last: Index | None = Field(
        description="null goes on for as long as a live folder grows; only in the last piece"
    )
    stride: Annotated[int, Field(gt=0)] = 1
    tokens: Tokens = Field(description="training budget of each link of this piece")
    repeat: Annotated[int, Field(gt=0, le=10_000)] = Field(
        default=1,
        description="links at each checkpoint: over one that stands still, a chain shows how far "
        "training alone moves its features",
    )

    @model_validator(mode="after")
    def _ends_meet(self) -> Self:
        if self.last is not None and (self.last - self.first) % self.stride:
            raise ValueError(
                f"last={self.last} must be first={self.first} plus a multiple of "
                f"stride={self.stride}, or less one"
            )
        return self

    def checkpoint_indices(self, n_checkpoints: int) -> range:
        """The checkpoints of this piece, in order, of an LM that has `n_checkpoints`."""
        last = max(self.first, n_checkpoints - 1) if self.last is None else self.last
        onward = 1 if last >= self.first else -1
        return range(self.first, last + onward, onward * self.stride)


class TrackConfig(Frozen):
    """One track: an LM, its hooks, a dictionary, and a chain of SAEs per hook over checkpoints."""

    model: str = Field(
        description="a name of the catalogue, such as pythia-410m-deduped (`saetrack families` "
        "lists them), or a folder into which a training run writes Hugging Face checkpoints"
    )
    layers: Annotated[tuple[Index, ...], Field(min_length=1)] = Field(
        description="of blocks.{layer}.hook_resid_pre; one chain each, all from one pass of the LM"
    )
    d_sae: Annotated[int, Field(gt=0)] = Field(description="features of the dictionary")
    schedule: Annotated[tuple[Piece, ...], Field(min_length=1)]
    corpus: CorpusConfig = CorpusConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    convention: Literal["centred", "raw"] = Field(
        default="centred",
        description="residual as in the paper (writing weights centred), or as the LM has it",
    )
    lm_precision: Literal["float32", "bfloat16"] = "float32"
    encoder_precision: EncoderPrecision = Field(
        default="float32",
        description="of the SAE's dense product: bfloat16 finds the active features, whose "
        "activations are then computed in float32; only for hardware that multiplies bfloat16",
    )
    objective: Objective = Objective()
    first_link: Optimiser = Optimiser(learning_rate=4e-4, warmup_steps=5000)
    later_links: Optimiser = Optimiser(learning_rate=4e-5, warmup_steps=3)
    carry: Carry = Carry()
    revival: Revival = Revival()
    batch_tokens: Tokens = 4096
    buffer_tokens: Tokens = 524_288
    seed: Index = 0
    start: str | None = Field(
        default=None,
        description="name of an SAE brought in by `saetrack import`, from which the first link "
        "starts as later ones do from their parents; null: from scratch",
    )
    save_every_tokens: Tokens = Field(
        default=5_000_000,
        description="a link's training state is saved so often; determines no weights",
    )
    follow_s: Annotated[float, Field(ge=0)] = Field(
        default=0,
        description="of a live folder: how long to wait for one more checkpoint before ending",
    )

    @model_validator(mode="after")
    def _fits_the_model(self) -> Self:
        require_fit(self, find_spec(self.model))
        return self

    def budgets(self, n_checkpoints: int | None) -> list[tuple[int, int]]:
        """Checkpoint index and training tokens of each link, in the chain's order.

        Args:
            n_checkpoints: how many the LM has; of a live folder's, those there are so far; None
                if the hub was not asked yet.
        """
        return [
            (index, piece.tokens)
            for piece in self.schedule
            for index in piece.checkpoint_indices(n_checkpoints or 0)
            for _ in range(piece.repeat)
            if n_checkpoints is None or index < n_checkpoints
        ]

    def budgets_by_now(self) -> list[tuple[int, int]]:
        """The same as far as the LM's checkpoints are known; asks nobody."""
        spec = find_spec(self.model)
        return self.budgets(len(spec.lm_steps) if spec.is_listed else None)

    @property
    def direction(self) -> Direction:
        """Through the LM's training, `reverse` as in appendix I.2.

        One link from scratch is `conventional`; links at one checkpoint that start from a parent
        are a `frozen` chain, a control.
        """
        first, last = self.schedule[0].first, self.schedule[-1].last
        if first == last:
            alone = len(self.schedule) == self.schedule[0].repeat == 1
            return "conventional" if alone and self.start is None else "frozen"
        return "forward" if last is None or first < last else "reverse"

    @model_validator(mode="after")
    def _layers_ascend(self) -> Self:
        if list(self.layers) != sorted(set(self.layers)):
            raise UserError(f"layers={list(self.layers)}: must ascend, each layer once")
        return self

    @model_validator(mode="after")
    def _starts_one_chain(self) -> Self:
        if self.start is not None and len(self.layers) > 1:
            raise UserError(
                f"layers={list(self.layers)}: must be one layer, since start={self.start!r} is an "
                "SAE of one hook"
            )
        return self

    @model_validator(mode="after")
    def _runs_one_way(self) -> Self:
        for piece in self.schedule[:-1]:
            if piece.last is None:
                raise UserError("schedule: only the last piece may go on without end (last=null)")
        indices = [i for piece in self.schedule for i in piece.checkpoint_indices(0)]
        for earlier, later in pairwise(indices):
            if self.direction == "frozen":
                one_way = later == earlier
            else:
                one_way = later < earlier if self.direction == "reverse" else later > earlier
            if not one_way:
                raise UserError(
                    f"schedule: checkpoint {later} comes after {earlier}; must ascend throughout, "
                    "or descend throughout"
                )
        return self

    @model_validator(mode="after")
    def _buffer_mixes(self) -> Self:
        if self.buffer_tokens < 2 * self.batch_tokens:
            raise UserError(
                f"buffer_tokens={self.buffer_tokens}: must be at least twice "
                f"batch_tokens={self.batch_tokens}"
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


class CompareConfig(Frozen):
    """A chain held against conventionally trained SAEs (appendix I.1), over several seeds."""

    track: TrackConfig
    checkpoints: Annotated[tuple[Index, ...], Field(min_length=1)] | None = Field(
        default=None,
        description="where conventional SAEs are trained; null: first, middle, last of the chain",
    )
    conventional_tokens: Tokens | None = Field(
        default=None, description="their budget; null: that of the chain's first link"
    )
    seeds: Annotated[tuple[Index, ...], Field(min_length=2)] = Field(
        default=(0, 1, 2), description="two at least: their difference is the yardstick"
    )

    @model_validator(mode="after")
    def _compares_what_the_chain_has(self) -> Self:
        offered = self._budgets()
        if absent := [index for index in self.checkpoints or () if index not in offered]:
            raise UserError(
                f"checkpoints={list(self.checkpoints or ())}: {absent[0]} is not in the track's "
                "schedule"
            )
        return self

    def chains(self) -> list[TrackConfig]:
        """The track with each seed."""
        return [self._variant(seed=seed) for seed in self.seeds]

    def conventional(self) -> list[TrackConfig]:
        """An SAE from scratch at each checkpoint with each seed."""
        budgets = self._budgets()
        order = list(budgets)
        tokens = self.conventional_tokens or budgets[order[0]]
        chosen = self.checkpoints or (order[0], order[len(order) // 2], order[-1])
        return [
            self._variant(
                seed=seed,
                start=None,
                schedule=[{"first": index, "last": index, "tokens": tokens}],
            )
            for index in sorted(set(chosen))
            for seed in self.seeds
        ]

    def _budgets(self) -> dict[int, int]:
        return dict(self.track.budgets_by_now())

    def _variant(self, **changes: Any) -> TrackConfig:
        return TrackConfig.model_validate({**self.track.model_dump(), **changes})


class Control(Frozen):
    """A chain to hold another one's drift against.

    `noise` shows what training an SAE does by itself (one frozen checkpoint, or an LM that stays
    random); a `replicate` should show the same (another seed, the reverse chain).
    """

    role: Literal["noise", "replicate"]
    track: TrackConfig


class AnalyzeConfig(Frozen):
    """What is looked at in a registered chain. Trains nothing."""

    chain: str | None = Field(default=None, description="name of a registered chain; or give track")
    track: TrackConfig | None = Field(
        default=None, description="of which every layer's chain is analysed; or give chain"
    )
    versions: Annotated[tuple[Index, ...], Field(min_length=3)] | None = Field(
        default=None, description="of the chain's registered model; null: every registered link"
    )
    beside: tuple[TrackConfig | str, ...] = Field(
        default=(),
        description="other registered chains, by name or by track, analysed alike and laid side by "
        "side: other layers, other LMs (paper, appendix K)",
    )
    controls: dict[str, Control] = Field(
        default={}, description="by name; those that are not registered are left out, and said so"
    )
    contexts: Annotated[int, Field(ge=2)] = Field(
        default=25, description="top contexts per feature (paper, section 4.1)"
    )
    followed_features: Annotated[int, Field(gt=0)] = Field(
        default=4096,
        description="live features whose contexts are followed through all checkpoints, a random "
        "sample if there are more: memory grows with it",
    )
    sampled_features: Annotated[int, Field(gt=0)] = Field(
        default=256, description="of the paper's random sample"
    )
    random_directions: Annotated[int, Field(gt=0)] = Field(
        default=256, description="directions whose contexts are followed as a control"
    )
    baseline_draws: Annotated[int, Field(ge=5)] = 5
    baseline_tokens: Annotated[int, Field(ge=2)] = Field(
        default=100, description="random contexts of each draw"
    )
    sample_tokens: Annotated[int, Field(ge=2)] = Field(
        default=1024, description="whose residuals are kept for collapse and continuity"
    )
    match_tokens: Tokens = Field(
        default=1_048_576,
        description="on which the activations of two chains' features are correlated: 600 MB each "
        "at this many",
    )
    least_density: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=1e-4, description="a feature that fires on fewer of the tokens is ultra-low"
    )
    exclude_bos: bool = Field(default=True, description="leave BOS positions out")
    seed: Index = 0

    @model_validator(mode="after")
    def _names_one_thing(self) -> Self:
        if (self.chain is None) == (self.track is None):
            raise UserError(f"chain={self.chain!r}: give either chain or track, not both or none")
        return self

    def choices(self) -> dict[str, Any]:
        """The fields that determine what is found at a checkpoint."""
        elsewhere = {"chain", "track", "versions", "beside", "controls", "match_tokens"}
        return self.model_dump(mode="json", exclude=elsewhere)


Config = TypeVar("Config", bound=BaseModel)


def load_config(values: dict[str, Any]) -> TrackConfig:
    """Validate a track's parameters.

    Raises:
        UserError: the first problem, in one line.
    """
    return _validated(TrackConfig, values)


def require_no_paths(values: dict[str, Any]) -> None:
    """Refuse a track that reads folders of this machine: one that came from elsewhere must not.

    Raises:
        UserError: its model or its corpus is a path.
    """
    model, corpus = values.get("model"), values.get("corpus")
    dataset = corpus.get("dataset") if isinstance(corpus, dict) else None
    if not isinstance(model, str) or is_folder(model):
        raise UserError(f"model={model!r}: only the track's own parameters may name a folder")
    if dataset not in ("mini", *HUB_DATASETS):
        raise UserError(
            f"corpus.dataset={dataset!r}: only the track's own parameters may name a path"
        )


def load_compare_config(values: dict[str, Any]) -> CompareConfig:
    """Validate a comparison's parameters.

    Raises:
        UserError: the first problem, in one line.
    """
    return _validated(CompareConfig, values)


def load_analyze_config(values: dict[str, Any]) -> AnalyzeConfig:
    """Validate an analysis' parameters.

    Raises:
        UserError: the first problem, in one line.
    """
    return _validated(AnalyzeConfig, values)


def _validated(kind: type[Config], values: dict[str, Any]) -> Config:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UserError(one_line(error)) from None
