"""The parameters of an analysis and of a comparison of registered chains."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from saetrack.analysis.pipeline.control_chain import ControlChain
from saetrack.chain.budget import Plateau
from saetrack.chain.config import SAEField, TrackConfig
from saetrack.chain.crosscoder import CrosscoderConfig
from saetrack.utils.errors import UserError, shown
from saetrack.utils.validation import Frozen, Index, Tokens, validated


class CompareConfig(Frozen):
    """Chains compared over several seeds: with conventionally trained SAEs, or by kinds of SAE.

    Without `architectures` the track's chain stands beside SAEs from scratch (appendix I.1). With
    them there is a chain of each kind, and beside it a control: as long a chain whose LM stands
    still at the last checkpoint. With `crosscoder` the rival is one dictionary over some of the
    chain's checkpoints, and beside both stands a chain over these checkpoints alone.
    """

    track: TrackConfig = Field(description="a track's fields, as above")
    architectures: Annotated[dict[str, SAEField], Field(min_length=2)] | None = Field(
        default=None,
        description="kinds of SAE by a name of your own, each with the fields of `sae`, the "
        "reference first; null: the chain is compared with conventional SAEs",
    )
    crosscoder: CrosscoderConfig | None = Field(
        default=None,
        description="how a crosscoder is trained over `checkpoints`, in place of conventional SAEs",
    )
    match_tokens: Tokens = Field(
        default=131_072,
        description="on which the activations of neighbouring links are correlated",
    )
    checkpoints: Annotated[tuple[Index, ...], Field(min_length=1)] | None = Field(
        default=None,
        description="where conventional SAEs are trained, or those of a crosscoder; null: first, "
        "middle, last of the chain",
    )
    conventional_tokens: Tokens | None = Field(
        default=None, description="their budget; null: that of the chain's first link"
    )
    seeds: Annotated[tuple[Index, ...], Field(min_length=2)] = Field(
        default=(0, 1, 2), description="two at least: their difference is the yardstick"
    )

    @model_validator(mode="after")
    def _compares_what_the_chain_has(self) -> Self:
        if self.track.planned is None:
            raise UserError(
                "track.schedule: must name its checkpoints and have an end, to be compared at it"
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"seeds={list(self.seeds)}: must be different from each other")
        offered = self._budgets()
        if self.architectures is not None:
            if len(self.track.planned) < 2:
                raise UserError("track.schedule: must have two links at least, to follow features")
            self.all_tracks()  # each kind suits the track
        if self.crosscoder is not None:
            self._require_rivals()
        if absent := [index for index in self.checkpoints or () if index not in offered]:
            raise UserError(
                f"checkpoints={list(self.checkpoints or ())}: {absent[0]} is not in the track's "
                "schedule"
            )
        return self

    def chains(self) -> list[TrackConfig]:
        """The track with each seed."""
        return [self._variant(seed=seed) for seed in self.seeds]

    def of_architecture(self, name: str) -> list[tuple[TrackConfig, TrackConfig]]:
        """The track with one of `architectures` and its frozen control, with each seed."""
        assert self.architectures is not None
        sae = self.architectures[name]
        frozen = self._frozen_schedule()
        return [
            (self._variant(sae=sae, seed=seed), self._variant(sae=sae, seed=seed, schedule=frozen))
            for seed in self.seeds
        ]

    def beside_crosscoders(self) -> list[TrackConfig]:
        """The track over the crosscoder's checkpoints alone, with each seed: a crosscoder's rival.

        Its budgets are those that the track has there.
        """
        budgets, every = self._budgets(), self.track.pieces[0].every
        pieces = [
            {"first": at, "last": at, "every": every, "tokens": budgets[at]}
            for at in self._chosen()
        ]
        return [self._variant(seed=seed, schedule=pieces) for seed in self.seeds]

    def all_tracks(self) -> list[TrackConfig]:
        """Everything that is trained, in order; crosscoders are trained after them."""
        if self.crosscoder is not None:
            return [self.track, *self.beside_crosscoders()]
        if self.architectures is None:
            return [*self.chains(), *self.conventional()]
        pairs = [pair for name in self.architectures for pair in self.of_architecture(name)]
        return [track for pair in pairs for track in pair]

    def conventional(self) -> list[TrackConfig]:
        """An SAE from scratch at each checkpoint with each seed."""
        budgets = self._budgets()
        tokens = self.conventional_tokens or next(iter(budgets.values()))
        every = self.track.pieces[0].every
        return [
            self._variant(
                seed=seed,
                start=None,
                schedule=[{"first": index, "last": index, "every": every, "tokens": tokens}],
            )
            for index in self._chosen()
            for seed in self.seeds
        ]

    def _chosen(self) -> list[int]:
        order = list(self._budgets())
        return sorted(set(self.checkpoints or (order[0], order[len(order) // 2], order[-1])))

    def _require_rivals(self) -> None:
        """What a crosscoder needs of a comparison."""
        if self.architectures is not None:
            raise UserError("crosscoder: give either architectures or crosscoder, not both")
        if self.track.direction != "forward":
            raise UserError(
                f"track.schedule: runs {self.track.direction}; a crosscoder's rival runs forward"
            )
        if len(chosen := self._chosen()) < 2:
            raise UserError(f"checkpoints={chosen}: a crosscoder needs two at least")

    def _frozen_schedule(self) -> list[dict[str, Any]]:
        """The chain's budgets, all at its last checkpoint."""
        planned = self.track.planned or []
        at = {"first": planned[-1][0], "last": planned[-1][0]}
        every = self.track.pieces[0].every
        return [
            {**at, "every": every, "tokens": tokens, "repeat": len(list(links))}
            for tokens, links in groupby(tokens for _, tokens in planned)
        ]

    def _budgets(self) -> dict[int, int | Plateau]:
        return dict(self.track.planned or ())

    def _variant(self, **changes: Any) -> TrackConfig:
        return TrackConfig.model_validate({**self.track.model_dump(), **changes})


class AnalyzeConfig(Frozen):
    """How a registered chain is analysed. Trains nothing."""

    chain: str | None = Field(
        default=None, description="a registered chain, by its name or a beginning; or give track"
    )
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
    replicates: tuple[TrackConfig | str, ...] = Field(
        default=(),
        description="other registered chains, by name or by track, analysed alike as replicates: "
        "other seeds of the LM or of the SAEs, other layers. Headline numbers are then given as "
        "mean and interval over all. Their controls differ from them as the controls of the "
        "track do from it",
    )
    controls: dict[str, ControlChain] = Field(
        default={},
        description="by a name of your own: {role: ..., track: ...}, over the LM and a hook of the "
        "chain; role noise takes an LM that stands still. Those that are not registered are left "
        "out, and said so",
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
    baseline_draws: Annotated[int, Field(ge=5)] = Field(
        default=5, description="how often random contexts are drawn for the baseline"
    )
    baseline_tokens: Annotated[int, Field(ge=2)] = Field(
        default=100, description="random contexts of each draw"
    )
    sample_tokens: Annotated[int, Field(ge=2)] = Field(
        default=1024, description="whose residuals are kept for collapse and continuity"
    )
    match_tokens: Tokens = Field(
        default=131_072,
        description="on which the activations of two chains' features are correlated: 100 MB each "
        "at this many",
    )
    theorem_rows: Annotated[int, Field(ge=0)] = Field(
        default=16,
        description="held-out rows whose mean loss theorem 2.1's steps go down, and tokens whose "
        "move is bounded: passes backward for each, and gradients of all parameters in memory; an "
        "LM of more than 2^30 parameters, or in bfloat16, is left out; 0 leaves all out",
    )
    theorem_checkpoints: Annotated[int, Field(gt=0)] = Field(
        default=5, description="spread over the chain, at which it is measured"
    )
    effect_tokens: Annotated[int, Field(ge=0)] = Field(
        default=65_536,
        description="held-out tokens on which features' effects are measured, forward and backward "
        "through the whole LM; 0 leaves effects out",
    )
    ablated_features: Annotated[int, Field(ge=0)] = Field(
        default=32,
        description="features per link that are truly taken out, in 2 rows each, to hold "
        "attribution against; 0 leaves it out",
    )
    probe_tokens: Annotated[int, Field(ge=0)] = Field(
        default=2048,
        description="positions, or texts, of each task for linear probes, half of either class, at "
        "most: memory grows with it; 0 leaves probes out",
    )
    probe_seeds: Annotated[int, Field(gt=0)] = Field(
        default=3, description="splits of these into training and test examples"
    )
    probe_texts: str | None = Field(
        default=None,
        description="a folder of CSV files, or owner/name on the hub, with columns prompt and "
        "target, each a task for probes: such as those that sae-probes ships; null: none",
    )
    min_density: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=1e-4, description="a feature that fires on fewer of the tokens is ultra-low"
    )
    context_rule: Literal["distinct", "authors", "both"] = Field(
        default="distinct",
        description="which datapoints count. distinct: each text and each row once; authors: "
        "repeated texts, several tokens of a row, and BOS, as the authors' search has it; both: "
        "distinct, and tables of what the other would change",
    )
    exclude_bos: bool | None = Field(
        default=None,
        description="leave BOS positions out; null: unless context_rule is authors; positions that "
        "the chain was not trained on are left out in any case",
    )
    seed: Index = Field(default=0, description="of the samples")

    @model_validator(mode="after")
    def _names_one_thing(self) -> Self:
        if (self.chain is None) == (self.track is None):
            raise UserError(f"chain={self.chain!r}: give either chain or track, not both or none")
        return self

    @model_validator(mode="after")
    def _stands_beside_or_replicates(self) -> Self:
        if self.beside and self.replicates:
            raise UserError(
                f"replicates: must be left out beside beside={shown(list(self.beside))}: chains "
                "are laid side by side, or averaged, in an analysis of their own each"
            )
        return self

    @model_validator(mode="after")
    def _controls_fit_their_roles(self) -> Self:
        named = [one for one in (self.track, *self.beside) if isinstance(one, TrackConfig)]
        if self.track is not None and len(named) == 1 + len(self.beside):
            self.require_fitting_controls(named)
        return self

    def require_fitting_controls(self, analysed: Sequence[TrackConfig]) -> None:
        """Refuse controls that are none: each would be left out, or pass for what it is not.

        Of chains that are named, only a registry knows the tracks; else the config was checked.

        Args:
            analysed: tracks of all chains that are analysed, without replicates.

        Raises:
            UserError: a control is over another LM or other hooks, or is not of its role.
        """
        for name, control in self.controls.items():
            control.require_fitting(name, analysed)

    def controls_over(self, base: TrackConfig, replicate: TrackConfig) -> dict[str, ControlChain]:
        """The controls of a replicate that fit it (`ControlChain.over`).

        Args:
            base: the track of the chain whose controls they are.
            replicate: likewise of the replicate.
        """
        found = {name: control.over(base, replicate) for name, control in self.controls.items()}
        return {name: control for name, control in found.items() if control is not None}

    @property
    def leaves_bos_out(self) -> bool:
        """Whether BOS positions take no part, even if the chain was trained on them."""
        return self.context_rule != "authors" if self.exclude_bos is None else self.exclude_bos

    def choices(self) -> dict[str, Any]:
        """The fields that determine what is found at a checkpoint."""
        elsewhere = {"chain", "track", "versions", "beside", "replicates", "controls"}
        elsewhere |= {"theorem_rows", "theorem_checkpoints"}
        elsewhere |= {"match_tokens", "probe_texts"}  # the content of the latter counts
        return self.model_dump(mode="json", exclude=elsewhere)


def load_compare_config(values: dict[str, Any]) -> CompareConfig:
    """Validate a comparison's parameters.

    Raises:
        UserError: the first problem, in one line.
    """
    return validated(CompareConfig, values)


def load_analyze_config(values: dict[str, Any]) -> AnalyzeConfig:
    """Validate an analysis' parameters.

    Raises:
        UserError: the first problem, in one line.
    """
    return validated(AnalyzeConfig, values)
