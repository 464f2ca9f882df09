"""One checkpoint: the LM runs once, and the link of every hook trains on its activations."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from saetrack.chain.budget import Plateau
from saetrack.chain.link_store import LinkStore, Recorder
from saetrack.chain.plan import Chain, CheckpointJob, Link
from saetrack.lm.ce_loss import CELoss, measure_ce_losses
from saetrack.lm.checkpoints.ahead import Ahead
from saetrack.lm.hook import Hook
from saetrack.lm.hooked import HookedLM
from saetrack.lm.weights import require_varied_activations
from saetrack.sae.architectures import empty_sae
from saetrack.sae.step import TrainStep
from saetrack.sae.tensor_parallel import ALONE, Ranks
from saetrack.sae.trainer import train
from saetrack.sae.warm_start import Start, cold_start, warm_start
from saetrack.training.activations_store import ActivationsStore
from saetrack.training.link import LinkTraining
from saetrack.training.massive import warn_of_massive
from saetrack.training.mixing_buffer import MixingBuffer
from saetrack.training.state import State, StateWriter, discard_state, load_state, snapshot
from saetrack.utils.errors import UserError
from saetrack.utils.progress import Progress
from saetrack.utils.timing import part

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

log = logging.getLogger(__name__)

# Steps between two questions to rank 0 whether a state is due: each costs a round of messages.
ASK_EVERY_STEPS = 4


class ClaimedLink(NamedTuple):
    """A link that this process alone may train, and where it is recorded."""

    chain: Chain
    link: Link
    recorder: Recorder


@dataclass(frozen=True)
class TrainingContext:
    """Where links are trained.

    Attributes:
        store: where links are kept.
        device: on which to compute.
        state_dir: where the state of unfinished training is saved.
        ranks: the processes that train together.
    """

    store: LinkStore
    device: torch.device
    state_dir: Path
    ranks: Ranks = ALONE

    def state_path(self, job: CheckpointJob) -> Path:
        """Of the state of a checkpoint's training."""
        return self.state_dir / f"{job.key}.safetensors"


def train_checkpoint(job: CheckpointJob, ahead: Ahead, context: TrainingContext) -> int:
    """Train and register the links of one checkpoint that the store lacks.

    Training that was interrupted goes on from its last saved state.

    Returns:
        How many links were trained here, not by another process meanwhile.
    """
    with ExitStack() as claims:
        claimed = []
        for chain, link in job.links:
            with part("registry"):
                recorder = context.store.claim(chain, link)
            if recorder is not None:
                claimed.append(ClaimedLink(chain, link, claims.enter_context(recorder)))
        if not claimed:
            return 0
        with part("LM loading"), ahead.checkpoint(job.checkpoint) as folder:
            lm = _load_lm(folder, job.checkpoint.label, claimed, context.device)
            checkpoint = ahead.noted(job.checkpoint)
        for note in checkpoint.notes:
            log.warning("%s", note)
        claimed = [of._replace(link=replace(of.link, checkpoint=checkpoint)) for of in claimed]
        state_path = context.state_path(job)
        with StateWriter(state_path) as writer:
            _CheckpointTraining(lm, claimed, context, state_path, writer).run()
        if context.ranks.rank == 0:
            discard_state(state_path)
        return len(claimed)


def _load_lm(
    folder: Path, label: str, claimed: list[ClaimedLink], device: torch.device
) -> HookedLM:
    config = claimed[0].chain.config
    return HookedLM(
        folder,
        [chain.hook for chain, *_ in claimed],
        residual=config.residual,
        precision=config.lm_precision,
        device=device,
        whole=config.evaluation.ce_tokens > 0,
        label=label,
    )


class _CheckpointTraining:
    """The links of one checkpoint in training, with the batches that they share."""

    def __init__(
        self,
        lm: HookedLM,
        claimed: list[ClaimedLink],
        context: TrainingContext,
        state_path: Path,
        writer: StateWriter,
    ) -> None:
        chain, link, _ = claimed[0]  # links of one checkpoint differ in their hook only
        config = chain.config
        self._ranks = context.ranks
        self._state_path = state_path
        self._writer = writer
        self._save_every_s = config.save_every_s
        self._train_s = 0.0
        store = _activations_store(lm, chain, link, context)
        self._batches = MixingBuffer(store, link.tokens, config.batch_tokens, config.buffer_tokens)
        state = self._saved_state()
        if state is None:
            first = self._batches.first_tokens(config.buffer_tokens // 2)
            starts = [_start(*of, x, context) for of, x in zip(claimed, first, strict=True)]
        else:
            starts = [_empty_start(of.chain, store) for of in claimed]
        held_out = store.held_out()
        for of, resid in zip(claimed, held_out, strict=True):
            require_varied_activations(resid, of.chain.hook, of.link.checkpoint.label)
        ce_losses = _ce_losses(lm, claimed, held_out)
        self._links = [
            LinkTraining(
                *(of.chain, of.link, start, resid, unseen),
                *(ce_losses.get(of.chain.hook), of.recorder),
                warn_of_massive(of.chain.name, resid, store),
            )
            for of, start, resid, unseen in zip(
                claimed, starts, held_out, _validation(store), strict=True
            )
        ]
        if state is None:
            for of_link in self._links:
                of_link.begin()
        else:
            self._restore(state)
        done_tokens = self._done_tokens
        self._saved_at_s = time.monotonic()
        due = (fraction * link.tokens for fraction in config.evaluation.eval_at_fractions)
        self._evaluations_due = [tokens for tokens in due if tokens > done_tokens]
        # What is in the buffer by now is served without the LM.
        served = min(config.buffer_tokens // 2, link.tokens // 4)
        self._progress = Progress(self._label, link.tokens, "tokens", done_tokens, served)

    def run(self) -> None:
        """Train until every link has ended, then register every link."""
        self._running_since_s = time.perf_counter()
        for done_tokens in train([link.training for link in self._links], self._batches):
            self._progress.show(done_tokens)
            for link in self._links:
                link.end_at_plateau(self._train_s + time.perf_counter() - self._running_since_s)
            self._evaluate_or_save(done_tokens)
        self._train_s += time.perf_counter() - self._running_since_s
        for link in self._links:
            link.finish(self._train_s)

    @property
    def _done_tokens(self) -> int:
        """Of the links that have not ended."""
        return max(link.training.done_tokens for link in self._links)

    @property
    def _label(self) -> str:
        label = self._links[0].chain.label(self._links[0].link)
        hooks = [link.chain.hook.short for link in self._links]
        return label if len(hooks) == 1 else f"{label}, {' '.join(hooks)}"

    def _evaluate_or_save(self, done_tokens: int) -> None:
        """Do what is due; its seconds do not count as training."""
        reached = [tokens for tokens in self._evaluations_due if tokens <= done_tokens]
        to_save = self._is_state_due(done_tokens)
        if not reached and not to_save and not self._batches.is_used_up:
            return
        self._train_s += time.perf_counter() - self._running_since_s
        if reached:
            del self._evaluations_due[: len(reached)]
            self._evaluate()
        if to_save:
            self._save()
        if self._batches.is_used_up:
            with part("saving"):
                self._writer.wait()
        self._running_since_s = time.perf_counter()

    def _evaluate(self) -> None:
        for link in self._links:
            if not link.training.has_ended:
                link.evaluate(self._train_s)

    def _is_state_due(self, done_tokens: int) -> bool:
        """By rank 0's clock; a link that has seen its last batch is registered instead."""
        trainings = [link.training for link in self._links]
        if done_tokens == self._links[0].link.tokens or all(of.has_ended for of in trainings):
            return False
        done_steps = max(of.done_steps for of in trainings)
        if self._ranks.count > 1 and done_steps % ASK_EVERY_STEPS:
            return False
        is_due: bool = self._ranks.broadcast_from_rank0(
            lambda: time.monotonic() - self._saved_at_s >= self._save_every_s
        )
        return is_due

    @part("saving")
    def _save(self) -> None:
        """Begin to write the state; training goes on meanwhile.

        The pool, the larger part, is not copied: it stays as it is until the writer is waited for.
        """
        self._writer.wait()  # before there is a second copy
        tensors, counts = self._batches.state()
        facts: dict[str, Any] = {"batches": counts, "train_s": self._train_s, "links": {}}
        for link in self._links:
            key = str(link.chain.hook.key)
            link_tensors, facts["links"][key] = link.state()
            if self._ranks.rank == 0:
                copies = snapshot(link_tensors)
                tensors |= {f"{key}.{name}": tensor for name, tensor in copies.items()}
        if self._ranks.rank == 0:
            self._writer.save(tensors, facts)
        self._saved_at_s = time.monotonic()

    def _saved_state(self) -> State | None:
        state = load_state(self._state_path)
        if not self._ranks.all_equal(state and state[1]):
            raise UserError(
                f"{self._state_path}: differs between processes; SAETRACK_CACHE_DIR must be one "
                "folder"
            )
        return state

    def _restore(self, state: State) -> None:
        """Go on from a saved state; some of its links may have been registered since.

        Raises:
            UserError: it is not a state of these links.
        """
        tensors, facts = state
        try:
            saved = list(facts["links"])
            keys = [str(link.chain.hook.key) for link in self._links]
            for link, key in zip(self._links, keys, strict=True):
                own = {
                    name.removeprefix(f"{key}."): tensor
                    for name, tensor in tensors.items()
                    if name.startswith(f"{key}.")
                }
                link.restore(own, facts["links"][key])
            trained = [saved.index(key) for key in keys]
            self._batches.restore(tensors, facts["batches"], trained)
            self._train_s = facts["train_s"]
        except torch.OutOfMemoryError:  # of a GPU; nothing is wrong with the state
            raise
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"{self._state_path}: not a state of these links ({type(error).__name__}: "
                f"{str(error).splitlines()[0]}); delete it and run again"
            ) from None
        log.info("%s: goes on at %s tokens", self._label, f"{self._done_tokens:,}")


def _activations_store(
    lm: HookedLM, chain: Chain, link: Link, context: TrainingContext
) -> ActivationsStore:
    return ActivationsStore(
        *(lm, chain.corpus, chain.config.corpus.exclude_bos, chain.config.seed, context.ranks),
        link.budget.validation_tokens if isinstance(link.budget, Plateau) else 0,
    )


def _start(
    chain: Chain,
    link: Link,
    _: Recorder,
    x: Float[Tensor, "tokens d_in"],
    context: TrainingContext,
) -> Start:
    config, ranks = chain.config, context.ranks
    sae_config, precision = config.sae, config.encoder_precision
    if link.parent_identity is None:
        return cold_start(x, config.d_sae, sae_config, config.seed, precision, ranks)
    with part("registry"):
        parent = context.store.parent(chain, link)
    if parent.sae.d_in != x.shape[1]:
        raise UserError(
            f"{chain.name}: the parent of {chain.label(link)} has d_in={parent.sae.d_in}, the LM's "
            f"residuals have {x.shape[1]}"
        )
    return warm_start(parent, config.warm_start, x, sae_config, precision, ranks)


def _empty_start(chain: Chain, store: ActivationsStore) -> Start:
    """A start with weights of zero, for a saved state to fill."""
    config, ranks = chain.config, store.ranks
    sae = empty_sae(config.sae, store.lm.d_in, config.d_sae // ranks.count, ranks)
    step = TrainStep(sae.to(store.lm.device), config.sae, config.encoder_precision)
    return Start(step, residual_mean_distance=0.0)


def _validation(store: ActivationsStore) -> Sequence[Float[Tensor, "tokens d_in"] | None]:
    """Of each hook, what its plateau is looked for on."""
    if not store.validation_tokens:
        return [None] * len(store.lm.hooks)
    return list(store.validation())


def _ce_losses(
    lm: HookedLM, claimed: list[ClaimedLink], held_out: Float[Tensor, "hooks tokens d_in"]
) -> dict[Hook, CELoss]:
    """Of each hook, where the config wants it."""
    chain = claimed[0].chain
    ce_tokens = chain.config.evaluation.ce_tokens
    if not ce_tokens:
        return {}
    means = {of.chain.hook: x.mean(dim=0) for of, x in zip(claimed, held_out, strict=True)}
    exclude_bos = chain.config.corpus.exclude_bos
    return measure_ce_losses(lm, chain.corpus, means, ce_tokens, exclude_bos=exclude_bos)
