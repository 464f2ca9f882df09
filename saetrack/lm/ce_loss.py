"""CE-loss recovered: how much of the LM's work survives when the SAE stands in at its hook."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from saetrack.data.corpus import Corpus
from saetrack.lm.hook import Hook
from saetrack.lm.hooked import HookedLM, Replace

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

    from saetrack.sae.model import SAE

# Logits of a row are as large as the vocabulary: few rows at a time.
SPLICE_BATCH_ROWS = 8

# Nats; below it the LM hardly uses the activations, and a share of so little is noise.
MIN_ABLATION_COST = 0.1


@dataclass(frozen=True)
class CELoss:
    """The cost of ablations at one hook of one checkpoint, and what an SAE recovers of it.

    All losses are cross-entropies in nats over the first held-out rows.

    Attributes:
        untouched: positions of the rows that keep their residual.
        ce_loss: of the LM as it is.
        ce_loss_zero: with the activations replaced by zero.
        ce_loss_mean: with the activations replaced by their held-out mean.
    """

    lm: HookedLM
    rows: Int[Tensor, "rows context"]
    hook: Hook
    untouched: Bool[Tensor, "rows context"]
    ce_loss: float
    ce_loss_zero: float
    ce_loss_mean: float

    def metrics(self, sae: SAE) -> dict[str, float]:
        """CE with the SAE spliced in, and the shares recovered of the two ablations.

        ce_loss_recovered = (zero - SAE) / (zero - clean), and the same against the mean. A share is
        left out where the ablation costs the LM less than a tenth of a nat. `nats_lost` (SAE -
        clean) needs no ablation; `ce_loss_uniform` is what guessing every token alike costs: a
        share of an ablation that is worse flatters.
        """
        return self._recovered(lambda x: sae.decode(sae.encode(x.flatten(0, -2))).view_as(x))

    def metrics_of(self, sae_out: Float[Tensor, "rows context d_in"]) -> dict[str, float]:
        """The same with activations in place that are known beforehand, of all `rows`."""
        batches = iter(sae_out.split(SPLICE_BATCH_ROWS))
        return self._recovered(lambda _: next(batches))

    def _recovered(self, replace: Replace) -> dict[str, float]:
        spliced = _loss(self.lm, self.rows, self.hook, self.untouched, replace)
        found = {
            "ce_loss": self.ce_loss,
            "ce_loss_zero": self.ce_loss_zero,
            "ce_loss_mean": self.ce_loss_mean,
            "ce_loss_spliced": spliced,
            "ce_loss_uniform": math.log(self.lm.vocabulary),
            "nats_lost": spliced - self.ce_loss,
        }
        for name, ablated in (
            ("ce_loss_recovered", self.ce_loss_zero),
            ("ce_loss_recovered_from_mean", self.ce_loss_mean),
        ):
            if ablated - self.ce_loss >= MIN_ABLATION_COST:
                found[name] = (ablated - spliced) / (ablated - self.ce_loss)
        return found


def measure_ce_losses(
    lm: HookedLM,
    corpus: Corpus,
    means: dict[Hook, Float[Tensor, " d_in"]],
    ce_tokens: int,
    *,
    exclude_bos: bool,
) -> dict[Hook, CELoss]:
    """Measure the clean and ablated losses once per checkpoint: they depend on no SAE.

    Args:
        lm: loaded whole.
        corpus: its first held-out rows are used.
        means: of the held-out activations, at each hook at which an SAE reads.
        ce_tokens: how many held-out tokens.
        exclude_bos: BOS positions keep their activations, as those do that the corpus excludes:
            no SAE was trained on them.
    """
    n_rows = -(-ce_tokens // corpus.context_size)
    rows = torch.from_numpy(corpus.rows("held_out")[:n_rows].astype(np.int64))
    untouched = ~corpus.kept(rows, exclude_bos=exclude_bos)
    clean = _loss(lm, rows, next(iter(means)), untouched, None)
    return {
        hook: CELoss(
            lm,
            rows,
            hook,
            untouched,
            ce_loss=clean,
            ce_loss_zero=_loss(lm, rows, hook, untouched, torch.zeros_like),
            ce_loss_mean=_loss(lm, rows, hook, untouched, mean.expand_as),
        )
        for hook, mean in means.items()
    }


def _loss(
    lm: HookedLM,
    rows: Int[Tensor, "rows context"],
    hook: Hook,
    untouched: Bool[Tensor, "rows context"],
    replace: Replace | None,
) -> float:
    total = 0.0
    batches = zip(rows.split(SPLICE_BATCH_ROWS), untouched.split(SPLICE_BATCH_ROWS), strict=True)
    for batch, is_kept in batches:
        replace_batch = replace
        if replace is not None and is_kept.any():
            replace_batch = _except_at(is_kept.to(lm.device)[..., None], replace)
        total += lm.spliced_loss(batch, hook, replace_batch) * len(batch)
    return total / len(rows)


def _except_at(is_kept: Tensor, replace: Replace) -> Replace:
    return lambda x: x.where(is_kept, replace(x))
