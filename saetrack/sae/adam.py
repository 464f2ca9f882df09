"""Adam that updates some features of a dictionary at a time."""

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

    torch's optimisers take whole gradients. Here each block of features is updated as soon as its
    gradient is known, while that is still in the processor's cache: no gradient of the size of the
    dictionary ever exists.

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
        if "threshold" in dict(sae.named_parameters()):
            self.parameters["threshold"] = sae.get_parameter("threshold").detach()
        self.exp_avg = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self.exp_avg_sq = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self._learning_rate = 0.0

    def begin_step(self, learning_rate: float) -> None:
        """Begin the next step, in which every row of every parameter must be updated once."""
        self.done_steps += 1
        self._learning_rate = learning_rate

    def scales(self) -> tuple[float, float]:
        """This step's learning rate over its first bias correction; the root of the second."""
        first, second = 1 - BETA1**self.done_steps, 1 - BETA2**self.done_steps
        return self._learning_rate / first, second**0.5

    def update(self, name: str, gradient: Tensor, rows: slice = ALL) -> None:
        """Update some rows of a parameter with their gradient."""
        parameter = self.parameters[name][rows]
        # torch counts this step itself, and expects the count on the parameter's device.
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
        """The moments, named `parameter.moment` and shaped as in the SAE, and the step count."""
        tensors = {}
        for name in self.parameters:
            for moment, values in (("exp_avg", self.exp_avg), ("exp_avg_sq", self.exp_avg_sq)):
                tensors[f"{name}.{moment}"] = values[name].T if name == "W_enc" else values[name]
        return {**tensors, "adam_steps": torch.tensor(self.done_steps)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go on from a `state`."""
        for name in self.parameters:
            for moment, values in (("exp_avg", self.exp_avg), ("exp_avg_sq", self.exp_avg_sq)):
                saved = tensors[f"{name}.{moment}"]
                values[name].copy_(saved.T if name == "W_enc" else saved)
        self.done_steps = int(tensors["adam_steps"])
