"""The architectures of SAEs that the field trains, a file each: which features fire, and why.

An SAE (`saetrack.sae.model`) knows what fires once training is over; its objective
(`saetrack.sae.architectures.objective`) what is minimised until then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saetrack.sae.architectures.batchtopk import BatchTopK, BatchTopKSAE
from saetrack.sae.architectures.jumprelu import JumpReLU, JumpReLUSAE
from saetrack.sae.architectures.objective import Objective
from saetrack.sae.architectures.relu import ReLU
from saetrack.sae.architectures.topk import TopK, TopKSAE
from saetrack.sae.config import (
    BatchTopKConfig,
    JumpReLUConfig,
    ReLUConfig,
    SAEConfig,
    TopKConfig,
)
from saetrack.sae.model import SAE
from saetrack.sae.tensor_parallel import ALONE, Ranks

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Objective", "empty_sae", "kind_of", "objective_of", "sae_of_settings"]

OBJECTIVES: dict[type[SAEConfig], type[Objective[Any, Any]]] = {
    ReLUConfig: ReLU,
    TopKConfig: TopK,
    BatchTopKConfig: BatchTopK,
    JumpReLUConfig: JumpReLU,
}


def empty_sae(sae_config: SAEConfig, d_in: int, d_sae: int, ranks: Ranks = ALONE) -> SAE:
    """An SAE of an architecture with weights of zero.

    Args:
        sae_config: of the architecture.
        d_in: width of the activations that it reads.
        d_sae: features, of this rank.
        ranks: that train it.
    """
    if isinstance(sae_config, BatchTopKConfig):
        return BatchTopKSAE(d_in, d_sae, ranks)
    if isinstance(sae_config, TopKConfig):
        return TopKSAE(d_in, d_sae, ranks, k=sae_config.k)
    if isinstance(sae_config, JumpReLUConfig):
        return JumpReLUSAE(d_in, d_sae, ranks)
    return SAE(d_in, d_sae, ranks)


def kind_of(sae_config: SAEConfig) -> dict[str, Any]:
    """What an SAE's `settings` say of its architecture, without its size."""
    settings = empty_sae(sae_config, 1, 1).settings()
    return {name: settings[name] for name in settings if name not in ("d_in", "d_sae")}


def objective_of(sae: SAE, sae_config: SAEConfig) -> Objective[Any, Any]:
    """What an SAE in training minimises."""
    return OBJECTIVES[type(sae_config)](sae, sae_config)


def sae_of_settings(settings: dict[str, Any]) -> SAE:
    """An SAE with weights of zero, of the kind that `SAE.settings` describes.

    Args:
        settings: from a file that anyone may have written.

    Raises:
        ValueError: in one line: a setting is missing or wrong.
    """
    d_in, d_sae = (_whole_number(settings, name) for name in ("d_in", "d_sae"))
    makers: dict[str, Callable[[], SAE]] = {
        "relu": lambda: SAE(d_in, d_sae),
        "standard": lambda: SAE(d_in, d_sae),  # so releases before 0.3 named it
        "topk": lambda: TopKSAE(d_in, d_sae, k=_whole_number(settings, "k")),
        "batchtopk": lambda: BatchTopKSAE(d_in, d_sae),
        "jumprelu": lambda: JumpReLUSAE(d_in, d_sae),
    }
    architecture = settings.get("architecture", "relu")
    if architecture not in makers:
        raise ValueError(f"architecture={architecture!r} must be one of {', '.join(makers)}")
    return makers[architecture]()


def _whole_number(settings: dict[str, Any], name: str) -> int:
    number = settings.get(name)
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError(f"{name}={number!r} must be a whole number above 0")
    return number
