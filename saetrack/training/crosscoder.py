"""Trains a crosscoder: all its checkpoints read the same tokens at once.

All LMs are in memory together, each up to the hook, or whole if CE loss is measured. Training takes
minutes on small LMs; what was broken off begins anew. A crosscoder counts once its run has ended.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from saetrack.chain.crosscoder import CrosscoderConfig, CrosscoderPlan, plan_crosscoder
from saetrack.lm.ce_loss import CELoss, measure_ce_losses
from saetrack.lm.checkpoints.ahead import Ahead
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.lm.hook import Hook
from saetrack.lm.hooked import HookedLM
from saetrack.registry import Registry
from saetrack.sae.crosscoder import (
    CrosscoderStep,
    new_crosscoder,
    save_crosscoder,
)
from saetrack.sae.crosscoder_metrics import CrosscoderEvaluation, evaluate_crosscoder
from saetrack.sae.trainer import Training, train
from saetrack.training.activations_store import ActivationsStore
from saetrack.training.mixing_buffer import MixingBuffer
from saetrack.training.prepare import PreparedTrack
from saetrack.utils.errors import UserError
from saetrack.utils.progress import Progress

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

log = logging.getLogger(__name__)

History = list[dict[str, float]]


@dataclass(frozen=True)
class SeveralLMs:
    """Checkpoints of one LM at one hook, in the place of one checkpoint's hooks.

    Attributes:
        lms: in the order in which their activations are given.
    """

    lms: Sequence[HookedLM]

    @property
    def hooks(self) -> tuple[Hook, ...]:
        """One for each checkpoint, all the same."""
        return tuple(hook for lm in self.lms for hook in lm.hooks)

    @property
    def device(self) -> torch.device:
        """Of all."""
        return self.lms[0].device

    @property
    def d_in(self) -> int:
        """Width of one checkpoint's activations."""
        return self.lms[0].d_in

    def activations(
        self, tokens: Int[Tensor, "rows context"]
    ) -> Float[Tensor, "checkpoints rows context d_in"]:
        """Of the same tokens at each checkpoint."""
        return torch.cat([lm.activations(tokens) for lm in self.lms])


def train_crosscoders(tracks: Sequence[PreparedTrack], config: CrosscoderConfig) -> int:
    """Train the rivals of the chains of some tracks, as far as the registry lacks them.

    Returns:
        How many were trained.

    Raises:
        UserError: a weight or a metric is not finite, or what is needed cannot be reached.
    """
    n_trained = 0
    for prepared in tracks:
        source = prepared.source
        for chain in prepared.track.chains:
            planned = plan_crosscoder(chain, config, source.lm_identity)
            device = prepared.context.device
            n_trained += train_crosscoder(planned, source, prepared.registry, device)
    return n_trained


def train_crosscoder(
    planned: CrosscoderPlan, source: CheckpointSource, registry: Registry, device: torch.device
) -> bool:
    """Train a crosscoder and register it as a run; whether the registry lacked it."""
    chain = planned.chain
    if registry.reports.has(chain.lm_name, planned.identity):
        return False
    lms = list(_load_lms(planned, source, device))
    training = _CrosscoderTraining(planned, lms)
    training.run()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        training.save(folder)
        facts = {
            "kind": "crosscoder",
            "identity": planned.identity,
            "layer": chain.layer,
            "hook_name": chain.hook_name,
            "seed": chain.config.seed,
            "lm_steps": [checkpoint.lm_step for checkpoint in planned.checkpoints],
        }
        metrics = training.metrics()
        registry.reports.log(chain.lm_name, planned.title, folder, metrics=metrics, facts=facts)
    return True


def _load_lms(
    planned: CrosscoderPlan, source: CheckpointSource, device: torch.device
) -> Iterator[HookedLM]:
    config, hook = planned.chain.config, planned.chain.hook
    with Ahead(source, planned.checkpoints) as ahead:
        for checkpoint in planned.checkpoints:
            with ahead.checkpoint(checkpoint) as folder:
                yield HookedLM(
                    folder,
                    [hook],
                    residual=config.residual,
                    precision=config.lm_precision,
                    device=device,
                    whole=config.evaluation.ce_tokens > 0,
                    label=checkpoint.label,
                )


class _CrosscoderTraining:
    """A crosscoder from its first residuals to its last evaluation."""

    def __init__(self, planned: CrosscoderPlan, lms: list[HookedLM]) -> None:
        config, track = planned.config, planned.chain.config
        self._planned, self._lms = planned, SeveralLMs(lms)
        corpus, exclude_bos = planned.chain.corpus, track.corpus.exclude_bos
        store = ActivationsStore(self._lms, corpus, exclude_bos, track.seed)
        self._batches = MixingBuffer(store, config.tokens, track.batch_tokens, track.buffer_tokens)
        first = self._batches.first_tokens(track.buffer_tokens // 2)
        self.crosscoder = new_crosscoder(first, track.d_sae, config.sae, track.seed)
        step = CrosscoderStep(self.crosscoder, config.sae)
        self._training = Training(step, config.optimiser)
        self._held_out = store.held_out()
        self._train_s = 0.0
        self._history: History = []
        self._last: CrosscoderEvaluation | None = None

    def run(self) -> None:
        """Train on every token, and evaluate where the track's links are evaluated."""
        tokens = self._planned.config.tokens
        fractions = self._planned.chain.config.evaluation.eval_at_fractions
        due = [fraction * tokens for fraction in fractions]
        progress = Progress(self._planned.title, tokens, "tokens")
        joined = (self.crosscoder.joined(x)[None] for x in self._batches)
        began_s = time.perf_counter()
        for done_tokens in train([self._training], joined):
            progress.show(done_tokens)
            if due and due[0] <= done_tokens < tokens:
                due = [at for at in due if at > done_tokens]
                self._train_s += time.perf_counter() - began_s
                self._evaluate()
                began_s = time.perf_counter()
        self._train_s += time.perf_counter() - began_s
        self._last = self._evaluate()
        self._add_ce_losses()
        self._require_finite()

    def metrics(self) -> dict[str, float]:
        """Means over checkpoints at the end of training, by name."""
        rows = self._final_rows()
        return {name: sum(row[name] for row in rows) / len(rows) for name in self._last_names()}

    def save(self, folder: Path) -> None:
        """Write weights and what is known about them."""
        assert self._last is not None
        planned = self._planned
        cfg: dict[str, Any] = {
            "identity": planned.identity,
            "checkpoints": [vars(checkpoint) for checkpoint in planned.checkpoints],
            "hook_name": planned.chain.hook_name,
            "training": planned.config.model_dump(mode="json"),
            "track": planned.chain.config.model_dump(mode="json"),
            "history": self._history,
        }
        save_crosscoder(folder, self.crosscoder, self._last.feature_density, cfg)

    def _evaluate(self) -> CrosscoderEvaluation:
        matched_l0 = self._planned.chain.config.evaluation.matched_l0
        found = evaluate_crosscoder(self.crosscoder, self._held_out, matched_l0)
        at = {"tokens": self._training.done_tokens, "train_s": self._train_s}
        for number, checkpoint in enumerate(self._planned.checkpoints):
            of = {"lm_step": checkpoint.lm_step, "checkpoint_index": checkpoint.checkpoint_index}
            self._history.append({**at, **of, **found.at(number)})
        return found

    def _add_ce_losses(self) -> None:
        """To the last rows of the history, where the track wants them."""
        track = self._planned.chain.config
        if not track.evaluation.ce_tokens:
            return
        losses = [self._ce_loss(number) for number in range(len(self._lms.lms))]
        sae_out = self._spliced(losses[0].rows)
        for row, loss, of_checkpoint in zip(self._final_rows(), losses, sae_out, strict=True):
            row.update(loss.metrics_of(of_checkpoint))

    def _ce_loss(self, number: int) -> CELoss:
        chain, lm = self._planned.chain, self._lms.lms[number]
        means = {chain.hook: self._held_out[number].mean(dim=0)}
        ce_tokens, exclude_bos = chain.config.evaluation.ce_tokens, chain.config.corpus.exclude_bos
        found = measure_ce_losses(lm, chain.corpus, means, ce_tokens, exclude_bos=exclude_bos)
        return found[chain.hook]

    @torch.no_grad()
    def _spliced(
        self, rows: Int[Tensor, "rows context"]
    ) -> Float[Tensor, "checkpoints rows context d_resid"]:
        """What the crosscoder makes of every position of some rows, a row at a time."""
        parts = [
            self.crosscoder.reconstruct(self._lms.activations(row[None])[:, 0]) for row in rows
        ]
        return torch.stack(parts, dim=1)

    def _final_rows(self) -> History:
        return self._history[-len(self._planned.checkpoints) :]

    def _last_names(self) -> list[str]:
        rows = self._final_rows()
        shared = set.intersection(*(set(row) for row in rows))
        return sorted(shared - {"lm_step", "checkpoint_index"})

    def _require_finite(self) -> None:
        finite = all(bool(tensor.isfinite().all()) for tensor in self.crosscoder.parameters())
        if not finite:
            raise UserError(
                f"{self._planned.title}: its weights are not finite; "
                f"crosscoder.learning_rate={self._planned.config.learning_rate} may be too large"
            )
