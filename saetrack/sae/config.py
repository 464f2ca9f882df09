"""Which numbers determine an SAE's weights: plain data, read without loading torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EncoderPrecision = Literal["float32", "bfloat16"]

Reconstruction = Literal["scale_free", "mse", "normalised"]


@dataclass(frozen=True, kw_only=True)
class ReLUConfig:
    """An SAE whose features fire where they are positive, kept sparse by a penalty (Eq 11 to 14).

    Attributes:
        architecture: `relu`.
        l1_coefficient: weight of the sparsity penalty.
        reconstruction: `scale_free` is the authors' code (squared error over the norm of the
            centred input: both terms then scale with the residual, whose norm grows in training);
            `mse` is the paper's Eq 13; `normalised` is the share of the batch's variance that is
            not explained.
        penalty: `unit_decoder` is the first form of Eq 14 (decoder rows kept at norm 1),
            `decoder_norm` the second (free rows, each activation weighted by its row's norm).
    """

    architecture: Literal["relu"] = "relu"
    l1_coefficient: float = 8e-5
    reconstruction: Reconstruction = "scale_free"
    penalty: Literal["unit_decoder", "decoder_norm"] = "unit_decoder"

    def __post_init__(self) -> None:
        _require(self, "l1_coefficient", at_least=0)

    @property
    def unit_rows(self) -> bool:
        """Whether decoder rows keep norm 1."""
        return self.penalty == "unit_decoder"


@dataclass(frozen=True, kw_only=True)
class TopKConfig:
    """An SAE of which the `k` largest features of each token fire (Gao et al. 2024).

    Attributes:
        architecture: `topk`.
        k: features that fire on a token, at most: only positive ones do.
        reconstruction: as of `ReLUConfig`.
        matryoshka: ascending numbers of features; each first so many must reconstruct alone too
            (Bussmann et al. 2025). The whole dictionary always must.
        auxk: dead features that learn the error of a token, the largest ones; null for half of
            `d_in`, as Gao et al. have it.
        auxk_coefficient: weight of that auxiliary loss; 0 leaves it out.
        dead_after_tokens: a feature that has not fired for so many training tokens is dead.
    """

    architecture: Literal["topk"] = "topk"
    k: int = 32
    reconstruction: Reconstruction = "normalised"
    matryoshka: tuple[int, ...] = ()
    auxk: int | None = None
    auxk_coefficient: float = 1 / 32
    dead_after_tokens: int = 1_000_000

    def __post_init__(self) -> None:
        _require(self, "k", at_least=1)
        _require(self, "auxk_coefficient", at_least=0)
        _require(self, "dead_after_tokens", at_least=1)
        if self.auxk is not None:
            _require(self, "auxk", at_least=1)
        if list(self.matryoshka) != sorted({n for n in self.matryoshka if n > 0}):
            raise ValueError(f"matryoshka={list(self.matryoshka)} must ascend, from 1 on")

    @property
    def unit_rows(self) -> bool:
        """Whether decoder rows keep norm 1."""
        return True


@dataclass(frozen=True, kw_only=True)
class BatchTopKConfig(TopKConfig):
    """As TopK, with `k` features per token on average over a batch (Bussmann et al. 2024).

    Attributes:
        architecture: `batchtopk`.
        threshold_rate: share of a batch's smallest firing activation in the running mean of them,
            above which a feature fires once training is over.
    """

    architecture: Literal["batchtopk"] = "batchtopk"  # type: ignore[assignment]
    threshold_rate: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.threshold_rate <= 1:
            raise ValueError(f"threshold_rate={self.threshold_rate} must lie between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class JumpReLUConfig:
    """An SAE whose features fire above learnt thresholds (Rajamanoharan et al. 2024).

    Thresholds have no gradient; theirs is estimated from the activations that lie within half of a
    bandwidth of them. Lengths are shares of the residuals' mean distance from their mean at the
    link's start, so that they need not follow a residual stream that grows.

    Attributes:
        architecture: `jumprelu`.
        l0_coefficient: weight of the number of features that fire on a token.
        bandwidth: of the estimate.
        initial_threshold: of every feature of a new SAE.
        reconstruction: as of `ReLUConfig`.
        pre_act_coefficient: weight of what dead features lack to their thresholds, a loss that
            wakes them (Anthropic, January 2025); 0 leaves it out.
        dead_after_tokens: a feature that has not fired for so many training tokens is dead.
    """

    architecture: Literal["jumprelu"] = "jumprelu"
    l0_coefficient: float = 1e-3
    bandwidth: float = 0.2
    initial_threshold: float = 0.1
    reconstruction: Reconstruction = "normalised"
    pre_act_coefficient: float = 3e-4
    dead_after_tokens: int = 1_000_000

    def __post_init__(self) -> None:
        _require(self, "l0_coefficient", at_least=0)
        _require(self, "initial_threshold", at_least=0)
        _require(self, "pre_act_coefficient", at_least=0)
        _require(self, "dead_after_tokens", at_least=1)
        if not 0 < self.bandwidth < float("inf"):
            raise ValueError(f"bandwidth={self.bandwidth} must be more than 0")

    @property
    def unit_rows(self) -> bool:
        """Whether decoder rows keep norm 1."""
        return True


SAEConfig = ReLUConfig | TopKConfig | BatchTopKConfig | JumpReLUConfig


def _require(config: SAEConfig, name: str, *, at_least: float) -> None:
    value = getattr(config, name)
    if not at_least <= value < float("inf"):
        raise ValueError(f"{name}={value} must be {at_least} or more")


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """Adam's learning rate: a linear warm-up over the first steps, then constant.

    Attributes:
        learning_rate: of Adam, after its warm-up.
        warmup_steps: over which the learning rate grows from 0.
    """

    learning_rate: float
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate={self.learning_rate} must be more than 0")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps={self.warmup_steps} must be 0 or more")

    def rate_at(self, done_steps: int) -> float:
        """Learning rate of the step that follows `done_steps` finished ones."""
        return self.learning_rate * min(1.0, (done_steps + 1) / max(self.warmup_steps, 1))


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """What a link changes in its parent's weights before it trains; W_enc and W_dec never change.

    Attributes:
        scale: `matched` multiplies both biases by the growth of the residuals' mean distance from
            their mean, from the parent's checkpoint to this one. If the residuals only grow or
            shrink, that is where the optimum of the scale-free loss moves. `kept` is the authors'
            practice.
    """

    scale: Literal["matched", "kept"] = "matched"
