"""Adam whose state can be brought forward a few features at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.optim.adam import adam

if TYPE_CHECKING:
    from torch import Tensor

    from saetrack.sae.model import SAE

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

ALL = slice(None)


class Adam:
    """Adam (Kingma and Ba 2015) without weight decay over the parameters of one SAE.

    torch's optimisers take whole gradients. Here a step is begun once and each block of features
    updated when its gradient is there, while that is still in the processor's cache: no gradient of
    the size of the dictionary ever exists.

    Attributes:
        done_steps: steps begun so far.
        parameters: by name, each with features (of `b_dec`: dimensions) along its first axis.
        exp_avg: first moments, shaped as `parameters`.
        exp_avg_sq: second moments.
    """

    def __init__(self, sae: SAE) -> None:
        self.done_steps = 0
        self.parameters = {
            "W_enc": sae.W_enc.detach().T,
            "b_enc": sae.b_enc.detach(),
            "W_dec": sae.W_dec.detach(),
            "b_dec": sae.b_dec.detach(),
        }
        self.exp_avg = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self.exp_avg_sq = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self._learning_rate = 0.0

    def begin_step(self, learning_rate: float) -> None:
        """The next step; every row of every parameter is to be updated once in it."""
        self.done_steps += 1
        self._learning_rate = learning_rate

    def scales(self) -> tuple[float, float]:
        """Of this step: the learning rate over the first bias correction, the second's root."""
        first, second = 1 - BETA1**self.done_steps, 1 - BETA2**self.done_steps
        return self._learning_rate / first, second**0.5

    def update(self, name: str, gradient: Tensor, rows: slice = ALL) -> None:
        """Update some rows of a parameter with their gradient."""
        parameter = self.parameters[name][rows]
        # The library counts the step itself, and wants the count where the parameter is.
        before = torch.full((), float(self.done_steps - 1), device=parameter.device)
        adam(
            [parameter],
            [gradient.contiguous()],
            [self.exp_avg[name][rows]],
            [self.exp_avg_sq[name][rows]],
            [],
            [before],
            fused=True,
            amsgrad=False,
            beta1=BETA1,
            beta2=BETA2,
            lr=self._learning_rate,
            weight_decay=0.0,
            eps=EPSILON,
            maximize=False,
        )

    def state(self) -> dict[str, Tensor]:
        """The moments as `parameter.moment`, in the parameters' own shapes, and the step count."""
        tensors = {}
        for name in self.parameters:
            for moment, of in (("exp_avg", self.exp_avg), ("exp_avg_sq", self.exp_avg_sq)):
                tensors[f"{name}.{moment}"] = of[name].T if name == "W_enc" else of[name]
        return {**tensors, "adam_steps": torch.tensor(self.done_steps)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go on with another's `state`."""
        for name in self.parameters:
            for moment, of in (("exp_avg", self.exp_avg), ("exp_avg_sq", self.exp_avg_sq)):
                saved = tensors[f"{name}.{moment}"]
                of[name].copy_(saved.T if name == "W_enc" else saved)
        self.done_steps = int(tensors["adam_steps"])
