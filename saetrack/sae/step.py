"""One exact training step of an SAE."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from saetrack.sae.objective import Losses, Objective, losses

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from saetrack.sae.model import SAE


class TrainStep:
    """Forward, backward, projected gradient, Adam, unit rows; counts which features fire.

    Nothing here waits for a device: all counters and losses stay tensors.
    """

    def __init__(self, sae: SAE, objective: Objective) -> None:
        self.sae = sae
        self.objective = objective
        self.adam = torch.optim.Adam(sae.parameters(), fused=True)
        self.tokens_since_fired: Int[Tensor, " d_sae"] = torch.zeros(
            sae.d_sae, dtype=torch.int64, device=sae.b_enc.device
        )

    def __call__(self, x: Float[Tensor, "batch d_in"], learning_rate: float) -> Losses:
        """Train on one batch of residuals."""
        feature_acts = self.sae.encode(x)
        terms = losses(self.objective, self.sae, x, feature_acts, self.sae.decode(feature_acts))
        self.adam.zero_grad()
        terms.loss.backward()
        unit_rows = self.objective.penalty == "unit_decoder"
        if unit_rows:
            self._project_decoder_gradient()
        self.adam.param_groups[0]["lr"] = learning_rate
        self.adam.step()
        if unit_rows:
            self.sae.normalise_decoder()
        self._count_firing(feature_acts.detach())
        return Losses(*(term.detach() for term in terms))

    def state(self) -> dict[str, Tensor]:
        """Weights, moments and counters, for `load`."""
        return {
            **dict(self.sae.named_parameters()),
            **self.moments(),
            "tokens_since_fired": self.tokens_since_fired,
        }

    def moments(self) -> dict[str, Tensor]:
        """Adam's state by `parameter.moment`, for a link that carries it on."""
        return {
            f"{name}.{moment}": tensor
            for name, parameter in self.sae.named_parameters()
            for moment, tensor in self.adam.state[parameter].items()
        }

    def load_moments(self, moments: dict[str, Tensor]) -> None:
        """Go on with another step's `moments`."""
        for name, parameter in self.sae.named_parameters():
            self.adam.state[parameter] = {
                moment: moments[f"{name}.{moment}"].to(parameter.device)
                for moment in ("step", "exp_avg", "exp_avg_sq")
            }

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go on with weights, moments and counters of another step: see `state`."""
        for name, parameter in self.sae.named_parameters():
            parameter.copy_(tensors[name])
        self.load_moments(tensors)
        self.tokens_since_fired.copy_(tensors["tokens_since_fired"])

    @torch.no_grad()
    def _project_decoder_gradient(self) -> None:
        """Take from each row's gradient its part along the row: norms are not the loss's to move.

        Rows have norm 1 here; with free norms there is nothing to project.
        """
        gradient = self.sae.W_dec.grad
        assert gradient is not None
        along = (gradient * self.sae.W_dec).sum(dim=1, keepdim=True)
        gradient.sub_(along * self.sae.W_dec)

    def _count_firing(self, feature_acts: Float[Tensor, "batch d_sae"]) -> None:
        fired = (feature_acts > 0).any(dim=0)
        self.tokens_since_fired += len(feature_acts)
        self.tokens_since_fired.masked_fill_(fired, 0)
