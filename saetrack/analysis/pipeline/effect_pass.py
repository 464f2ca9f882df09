"""One pass forward and backward over held-out rows: what the features of a checkpoint do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from saetrack.analysis.effects.ablation import (
    Ablation,
    AblationSample,
    kl_from,
    taken_out,
)
from saetrack.analysis.effects.attribution import Attribution, FeatureEffects
from saetrack.analysis.effects.core_metrics import CoreMetrics, largest_cosines
from saetrack.lm.ce_loss import SPLICE_BATCH_ROWS
from saetrack.lm.hooked import LossGradient, next_token_losses
from saetrack.sae.kernels.sparse import ActivePairs, decode_pairs, select
from saetrack.utils.progress import Progress

if TYPE_CHECKING:
    from jaxtyping import Bool, Int, UInt32
    from torch import Tensor

    from saetrack.analysis.pipeline.config import AnalyzeConfig
    from saetrack.analysis.pipeline.feature_pass import FeaturePass
    from saetrack.data.exclusion import Excluded

NO_ABLATIONS = AblationSample(()).table()


@dataclass(frozen=True)
class FoundEffects:
    """What a checkpoint's features do.

    Attributes:
        effects: of all features, by attribution.
        ablations: of the sample, see `saetrack.analysis.effects.ablation`.
        core: metrics of the SAE, see `saetrack.analysis.effects.core_metrics`.
    """

    effects: FeatureEffects
    ablations: pd.DataFrame
    core: dict[str, float]


@dataclass(frozen=True)
class EffectPass:
    """A checkpoint over the first held-out rows.

    Attributes:
        feature_pass: its LM, loaded whole, and its SAE.
        rows: that are read.
        kept: positions whose features take part.
        sampled: features that are ablated too.
        seed: of the random directions.
    """

    feature_pass: FeaturePass
    rows: Int[Tensor, "rows context"]
    kept: Bool[Tensor, "rows context"]
    sampled: Int[np.ndarray, " sampled"]
    seed: int

    def read(self) -> FoundEffects:
        """Read all rows."""
        sae, lm = self.feature_pass.sae, self.feature_pass.lm
        attribution, sample = Attribution(sae, self.seed), AblationSample(self.sampled)
        core = CoreMetrics()
        progress = Progress(
            f"step {self.feature_pass.checkpoint.lm_step}, effects", self.rows.numel(), "tokens"
        )
        batches = (part.split(SPLICE_BATCH_ROWS) for part in (self.rows, self.kept))
        for tokens, kept in zip(*batches, strict=True):
            found = lm.loss_gradient(tokens, lm.hooks[0])
            pairs = sae.active_pairs(found.x.flatten(0, 1))
            pairs = select(sae, pairs, kept.flatten().to(lm.device)[pairs.tokens])
            effects = attribution.add(pairs, found.gradient.flatten(0, 1))
            self._add_to(core, tokens, kept.to(lm.device), found, pairs)
            ablations = list(sample.of_batch(pairs, effects, tokens.shape[1]))
            for start in range(0, len(ablations), SPLICE_BATCH_ROWS):
                self._ablate(sample, ablations[start : start + SPLICE_BATCH_ROWS], tokens, found)
            progress.advance(tokens.numel())
        by_weights = {
            f"mean_largest_{name}_cosine": float(largest_cosines(rows).mean())
            for name, rows in (("decoder", sae.W_dec), ("encoder", sae.W_enc.T))
        }
        return FoundEffects(attribution.result(), sample.table(), core.result() | by_weights)

    def _add_to(
        self,
        core: CoreMetrics,
        tokens: Int[Tensor, "rows context"],
        kept: Bool[Tensor, "rows context"],
        clean: LossGradient,
        pairs: ActivePairs,
    ) -> None:
        """Run a batch twice more: with the SAE's output in place, and with zeros."""
        lm, sae, there = self.feature_pass.lm, self.feature_pass.sae, kept[..., None]
        sae_out = decode_pairs(sae, pairs).view_as(clean.x)
        core.add_activations(clean.x[kept], sae_out[kept], pairs.feature_acts)
        changed = {
            "sae": lm.logits(tokens, lm.hooks[0], lambda x: sae_out.where(there, x)),
            "zero": lm.logits(tokens, lm.hooks[0], lambda x: x.masked_fill(there, 0.0)),
        }
        rows = tokens.to(lm.device)
        of_all = {"clean": clean.logits, **changed}
        losses = {name: next_token_losses(logits, rows) for name, logits in of_all.items()}
        core.add_logits(kept, clean.logits, changed, losses)

    def _ablate(
        self,
        sample: AblationSample,
        ablations: list[Ablation],
        tokens: Int[Tensor, "rows context"],
        clean: LossGradient,
    ) -> None:
        """Run rows again, each without one feature."""
        lm = self.feature_pass.lm
        chosen = torch.tensor([ablation.row for ablation in ablations])
        rows, logits = tokens[chosen].to(lm.device), clean.logits[chosen.to(lm.device)]
        minus = taken_out(ablations, self.feature_pass.sae.W_dec, tokens.shape[1])
        changed = lm.logits(rows, lm.hooks[0], lambda x: x - minus)
        rise = next_token_losses(changed, rows).double() - next_token_losses(logits, rows)
        kls = kl_from(logits, changed).double().sum(dim=1)
        for ablation, loss, kl in zip(
            ablations, rise.sum(dim=1).tolist(), kls.tolist(), strict=True
        ):
            sample.keep(ablation, loss, kl)


def effect_pass(
    feature_pass: FeaturePass,
    held_out: UInt32[np.ndarray, "rows context"],
    fires: Int[np.ndarray, " d_sae"],
    excluded: Excluded,
    config: AnalyzeConfig,
) -> EffectPass:
    """The pass that a config asks for.

    Args:
        feature_pass: the checkpoint.
        held_out: rows that no link trains on, of which the first are read.
        fires: on how many tokens of the analysis each feature fires; of those that do, the same
            ones are ablated at every link.
        excluded: positions that are left out.
        config: of the analysis.
    """
    n_rows = -(-config.effect_tokens // held_out.shape[1])
    rows = torch.from_numpy(held_out[:n_rows].astype(np.int64))
    order = np.random.default_rng(config.seed).permutation(len(fires))
    sampled = order[fires[order] > 0][: config.ablated_features]
    return EffectPass(feature_pass, rows, excluded.kept(rows), sampled, config.seed)
