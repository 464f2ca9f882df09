"""One pass forward and backward over held-out rows: what the features of a checkpoint do."""

from __future__ import annotations

import math
from collections.abc import Iterator
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
from saetrack.analysis.effects.attribution import (
    Attribution,
    FeatureEffects,
    strongest,
    way_points,
)
from saetrack.analysis.effects.core_metrics import CoreMetrics, largest_cosines
from saetrack.lm.hooked import HookedLM, LossGradient, Replace, next_token_losses
from saetrack.sae.kernels.sparse import ActivePairs, decode_pairs, select
from saetrack.utils.progress import Progress

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, UInt32
    from torch import Tensor

    from saetrack.analysis.pipeline.config import AnalyzeConfig
    from saetrack.analysis.pipeline.feature_pass import FeaturePass
    from saetrack.data.exclusion import Excluded

NO_ABLATIONS = AblationSample(()).table()

# Rows of a batch at most, and numbers of its log-probabilities, of which up to seven arrays exist
# at a time: 2 GB.
BATCH_ROWS = 8
BATCH_NUMBERS = 2**26
ALL = slice(None)


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
        for tokens, kept in self._batches():
            clean = lm.loss_gradient(tokens, lm.hooks[0])
            batch = _Batch(lm, tokens.to(lm.device), clean, clean.log_p.exp())
            pairs = sae.active_pairs(clean.x.flatten(0, 1))
            pairs = select(sae, pairs, kept.flatten().to(lm.device)[pairs.tokens])
            effects = attribution.add(
                pairs, clean.gradient.flatten(0, 1), self._on_the_way(batch, pairs)
            )
            self._add_to(core, batch, kept.to(lm.device), pairs)
            ablations = list(sample.of_batch(pairs, effects, tokens.shape[1]))
            for start in range(0, len(ablations), len(tokens)):
                self._ablate(sample, ablations[start : start + len(tokens)], batch)
            progress.advance(tokens.numel())
        by_weights = {
            f"mean_largest_{name}_cosine": float(largest_cosines(rows).mean())
            for name, rows in (("decoder", sae.W_dec), ("encoder", sae.W_enc.T))
        }
        found = core.result() | by_weights | {"ce_uniform": math.log(lm.vocabulary)}
        return FoundEffects(attribution.result(), sample.table(), found)

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows, and their positions that take part, as many as memory allows."""
        of_row = self.rows.shape[1] * self.feature_pass.lm.vocabulary
        size = min(BATCH_ROWS, max(1, BATCH_NUMBERS // of_row))
        return zip(self.rows.split(size), self.kept.split(size), strict=True)

    def _on_the_way(self, batch: _Batch, pairs: ActivePairs) -> Float[Tensor, "tokens d_in"] | None:
        """Mean gradient while each token's strongest feature is taken out."""
        sae = self.feature_pass.sae
        alone = select(sae, pairs, strongest(pairs, sae.W_dec))
        minus = (decode_pairs(sae, alone) - sae.b_dec.detach()).view_as(batch.clean.x)
        found = [batch.gradient(_less(share * minus)) for share in way_points()]
        return torch.stack(found).mean(dim=0).flatten(0, 1) if found else None

    def _add_to(
        self,
        core: CoreMetrics,
        batch: _Batch,
        kept: Bool[Tensor, "rows context"],
        pairs: ActivePairs,
    ) -> None:
        """Run a batch twice more: with the SAE's output in place, and with zeros."""
        sae, x, there = self.feature_pass.sae, batch.clean.x, kept[..., None]
        sae_out = decode_pairs(sae, pairs).view_as(x)
        core.add_activations(x[kept], sae_out[kept], pairs.feature_acts)
        found = {
            "sae": batch.changed(ALL, lambda x: sae_out.where(there, x)),
            "zero": batch.changed(ALL, lambda x: x.masked_fill(there, 0.0)),
        }
        losses = {name: loss for name, (_, loss) in found.items()}
        clean = next_token_losses(batch.clean.log_p, batch.tokens)
        core.add_losses(
            kept, {name: kl for name, (kl, _) in found.items()}, losses | {"clean": clean}
        )

    def _ablate(self, sample: AblationSample, ablations: list[Ablation], batch: _Batch) -> None:
        """Run rows again, each without one feature."""
        rows = torch.tensor([ablation.row for ablation in ablations], device=batch.tokens.device)
        minus = taken_out(ablations, self.feature_pass.sae.W_dec, batch.tokens.shape[1])
        kls, losses = batch.changed(rows, _less(minus))
        rises = losses.double() - next_token_losses(batch.clean.log_p[rows], batch.tokens[rows])
        kls, rises = kls.double().sum(dim=1), rises.sum(dim=1)
        for ablation, loss, kl in zip(ablations, rises.tolist(), kls.tolist(), strict=True):
            sample.keep(ablation, loss, kl)


@dataclass(frozen=True)
class _Batch:
    """Some rows, and what the LM as it is makes of them.

    Attributes:
        lm: loaded whole.
        tokens: the rows.
        clean: one pass over them.
        p: probabilities of next tokens, the exponential of `clean.log_p`.
    """

    lm: HookedLM
    tokens: Int[Tensor, "rows context"]
    clean: LossGradient
    p: Float[Tensor, "rows context vocabulary"]

    def changed(
        self, rows: slice | Tensor, replace: Replace
    ) -> tuple[Float[Tensor, "chosen context"], Float[Tensor, "chosen context_less_1"]]:
        """KL divergence and next-token losses of some rows with other activations at the hook."""
        tokens, clean = self.tokens[rows], self.clean
        log_q = self.lm.log_p(tokens, self.lm.hooks[0], replace, clean.raw[rows])
        kl = kl_from(clean.log_p[rows], self.p[rows], log_q)
        return kl, next_token_losses(log_q, tokens)

    def gradient(self, replace: Replace) -> Float[Tensor, "rows context d_in"]:
        """Of the summed loss by the activations, with others in place."""
        return self.lm.gradient_at(self.tokens, self.lm.hooks[0], replace, self.clean.raw)


def _less(minus: Tensor) -> Replace:
    return lambda x: x - minus


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
