"""How good an SAE is at its place in the LM, by the definitions that SAEBench calls core.

Positions that are left out keep their activations and count in no number. Sums are over the others:

    explained_variance            1 - sum ||x - y||^2 / sum ||x - mean x||^2
    explained_variance_per_token  mean of 1 - ||x - y||^2 / ||x - mean of the batch||^2
    cosine                        mean of x . y / (||x|| ||y||)
    l2_ratio                      mean of ||y|| / ||x||
    relative_reconstruction_bias  mean ||y||^2 / mean x . y     (Eq 10 of arXiv 2404.16014)
    l0, l1                        mean number and mean sum of activations
    kl, kl_zero                   mean KL divergence from the LM's own next tokens, with the SAE's
                                  output in place, and with zeros
    kl_score                      (kl_zero - kl) / kl_zero
    ce, ce_sae, ce_zero           mean next-token cross-entropy of the LM, and of the same two
    ce_score                      (ce_zero - ce_sae) / (ce_zero - ce)

with x the activations and y what the SAE makes of them. Losses are in nats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import normalize

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

# Cosines that exist at a time.
BLOCK_NUMBERS = 2**24
# Rows that are compared with all others, evenly spaced.
COMPARED = 2048


class CoreMetrics:
    """Sums of a stream of batches."""

    def __init__(self) -> None:
        """Nothing is summed yet."""
        self._sums: dict[str, float] = {}
        self._mean: Tensor | None = None

    def add_activations(
        self,
        x: Float[Tensor, "tokens d_in"],
        sae_out: Float[Tensor, "tokens d_in"],
        feature_acts: Float[Tensor, " pairs"],
    ) -> None:
        """Take in the tokens of a batch that take part.

        Args:
            x: activations.
            sae_out: what the SAE makes of them.
            feature_acts: all that are active on them.
        """
        x, y = x.double(), sae_out.double()
        error = (x - y).square().sum(dim=1)
        of_batch = (x - x.mean(dim=0)).square().sum(dim=1).clamp_min(1e-12)
        norms, of_y = x.norm(dim=1).clamp_min(1e-12), y.norm(dim=1)
        product = (x * y).sum(dim=1)
        self._add(
            tokens=len(x),
            error=error.sum(),
            squares=x.square().sum(),
            per_token=(1 - error / of_batch).sum(),
            cosine=(product / (norms * of_y.clamp_min(1e-12))).sum(),
            l2_ratio=(of_y / norms).sum(),
            squares_out=y.square().sum(),
            product=product.sum(),
            l0=len(feature_acts),
            l1=feature_acts.double().sum(),
        )
        total = x.sum(dim=0)
        self._mean = total if self._mean is None else self._mean + total

    def add_losses(
        self,
        kept: Bool[Tensor, "rows context"],
        kl: dict[str, Float[Tensor, "rows context"]],
        losses: dict[str, Float[Tensor, "rows context_less_1"]],
    ) -> None:
        """Take in what the LM makes of a batch.

        Args:
            kept: positions that count.
            kl: from the LM's own next tokens, with the SAE's output (`sae`) and with zeros (`zero`)
                in place.
            losses: next-token losses of both, and of the LM as it is (`clean`).
        """
        self._add(predicted=kept[:, :-1].sum())
        self._add(**{f"kl_{name}": of[kept].double().sum() for name, of in kl.items()})
        self._add(**{f"ce_{name}": of[kept[:, :-1]].double().sum() for name, of in losses.items()})

    def result(self) -> dict[str, float]:
        """The metrics so far, see the top of this file; nothing of no token."""
        s, tokens = self._sums, self._sums.get("tokens", 0)
        if self._mean is None or not tokens or not s["predicted"]:
            return {}
        variance = s["squares"] - float(self._mean.square().sum()) / tokens
        kl, kl_zero = s["kl_sae"] / tokens, s["kl_zero"] / tokens
        ce, ce_sae, ce_zero = (s[f"ce_{at}"] / s["predicted"] for at in ("clean", "sae", "zero"))
        means = {name: s[name] / tokens for name in ("cosine", "l2_ratio", "l0", "l1")}
        return {
            "tokens": tokens,
            "kl": kl,
            "kl_zero": kl_zero,
            "kl_score": _share(kl_zero - kl, kl_zero),
            "ce": ce,
            "ce_sae": ce_sae,
            "ce_zero": ce_zero,
            "ce_score": _share(ce_zero - ce_sae, ce_zero - ce),
            "explained_variance": 1 - _share(s["error"], variance),
            "explained_variance_per_token": s["per_token"] / tokens,
            **means,
            "relative_reconstruction_bias": _share(s["squares_out"], s["product"]),
        }

    def _add(self, **terms: float | Tensor) -> None:
        for name, term in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(term)


@torch.no_grad()
def largest_cosines(rows: Float[Tensor, "rows d_in"]) -> Float[Tensor, " compared"]:
    """Of some rows, or of all if they are few, the largest cosine to another row."""
    unit = normalize(rows.detach().float(), dim=1)
    compared = torch.linspace(0, len(unit) - 1, min(len(unit), COMPARED), device=unit.device)
    found = []
    for some in compared.round().long().split(max(1, BLOCK_NUMBERS // max(len(unit), 1))):
        cosines = unit[some] @ unit.T
        cosines[torch.arange(len(some), device=unit.device), some] = -torch.inf
        found.append(cosines.amax(dim=1))
    return torch.cat(found)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
