"""One checkpoint: the LM runs once, and the link of every layer trains on what it gives."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from saetrack.chain.link_store import LinkStore, Recorder
from saetrack.chain.plan import Chain, CheckpointJob, Link
from saetrack.lm.ce_loss import measure_ce_loss
from saetrack.lm.checkpoints.ahead import Ahead
from saetrack.lm.hooked import HookedLM
from saetrack.sae.model import SAE
from saetrack.sae.step import TrainStep
from saetrack.sae.tensor_parallel import ALONE, Ranks
from saetrack.sae.trainer import train
from saetrack.sae.warm_start import Start, cold_start, warm_start
from saetrack.training.activations_store import ActivationsStore, MixingBuffer
from saetrack.training.link import LinkTraining
from saetrack.training.state import discard_state, load_state, save_state
from saetrack.utils.errors import UserError
from saetrack.utils.progress import Progress
from saetrack.utils.timing import part

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

log = logging.getLogger(__name__)

Claimed = tuple[Chain, Link, Recorder]


@dataclass(frozen=True)
class TrainingContext:
    """Where stages are trained.

    Attributes:
        store: where links are kept.
        device: where to train.
        state_dir: where the state of a stage in training is saved.
        ranks: the processes that train together.
    """

    store: LinkStore
    device: torch.device
    state_dir: Path
    ranks: Ranks = ALONE


def train_checkpoint(job: CheckpointJob, ahead: Ahead, training_context: TrainingContext) -> None:
    """Train and register the links of one checkpoint that the store lacks.

    A stage that was broken off goes on from its last saved state.
    """
    with ExitStack() as claims:
        claimed: list[Claimed] = []
        for chain, link in job.links:
            with part("registry"):
                recorder = training_context.store.claim(chain, link)
            if recorder is not None:
                claimed.append((chain, link, claims.enter_context(recorder)))
        if claimed:
            with part("LM loading"), ahead.checkpoint(job.checkpoint) as folder:
                lm = _load_lm(folder, claimed, training_context.device)
            state_path = training_context.state_dir / f"{job.key}.safetensors"
            training = _CheckpointTraining(lm, claimed, training_context, state_path)
            training.run()
            if training_context.ranks.rank == 0:
                discard_state(state_path)


def _load_lm(folder: Path, claimed: list[Claimed], device: torch.device) -> HookedLM:
    config = claimed[0][0].config
    return HookedLM(
        folder,
        [chain.layer for chain, *_ in claimed],
        residual=config.residual,
        precision=config.lm_precision,
        device=device,
        whole=config.evaluation.ce_tokens > 0,
    )


class _CheckpointTraining:
    """The links of one checkpoint in training, with the batches that they share."""

    def __init__(
        self,
        lm: HookedLM,
        claimed: list[Claimed],
        training_context: TrainingContext,
        state_path: Path,
    ) -> None:
        chain, link, _ = claimed[0]  # links of one stage differ in their layer only
        config, ranks = chain.config, training_context.ranks
        bos = config.corpus.exclude_bos
        stream = ActivationsStore(lm, chain.corpus, bos, config.seed, ranks)
        self._batches = MixingBuffer(stream, link.tokens, config.batch_tokens, config.buffer_tokens)
        self._save_every_tokens = config.save_every_tokens
        self._state_path = state_path
        self._train_s = 0.0
        self._ranks = ranks
        saved = load_state(state_path)
        if not ranks.all_equal(saved and saved[1]):
            raise UserError(
                f"{state_path}: differs between processes; SAETRACK_CACHE_DIR must be one folder"
            )
        if saved is None:
            first = self._batches.first_tokens(config.buffer_tokens // 2)
            starts = [
                _start(*one, x, training_context) for one, x in zip(claimed, first, strict=True)
            ]
        else:
            starts = [_blank_start(chain, stream) for chain, *_ in claimed]
        self._links = [
            _open_link(lm, held_out, start, *one)
            for one, start, held_out in zip(claimed, starts, stream.held_out(), strict=True)
        ]
        if saved is None:
            self._evaluate()
        else:
            try:
                self._restore(*saved)
            except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
                raise UserError(
                    f"{state_path}: not a state of these links ({type(error).__name__}: "
                    f"{str(error).splitlines()[0]}); delete it and run again"
                ) from None
        done = self._saved_tokens = self._done_tokens
        self._due_tokens = [
            due
            for share in config.evaluation.eval_at_fractions
            if (due := share * link.tokens) > done
        ]
        self._progress = Progress(self._label, link.tokens, "tokens", done)

    def run(self) -> None:
        """Train to the end of the budget, then register every link."""
        self._running_since_s = time.perf_counter()
        for _ in train([link.training for link in self._links], self._batches):
            self._after_batch()
        self._train_s += time.perf_counter() - self._running_since_s
        for link in self._links:
            link.finish(self._train_s)

    @property
    def _done_tokens(self) -> int:
        return self._links[0].training.done_tokens

    @property
    def _label(self) -> str:
        label = self._links[0].chain.label(self._links[0].link)
        layers = [str(link.chain.layer) for link in self._links]
        return label if len(layers) == 1 else f"{label}, layers {' '.join(layers)}"

    def _after_batch(self) -> None:
        """Show progress; evaluate and save where it is time."""
        done = self._done_tokens
        self._progress.show(done)
        reached = [due for due in self._due_tokens if due <= done]
        to_save = done - self._saved_tokens >= self._save_every_tokens
        if not reached and not to_save:
            return
        # Neither is training: its seconds are what a link costs.
        self._train_s += time.perf_counter() - self._running_since_s
        if reached:
            del self._due_tokens[: len(reached)]
            self._evaluate()
        if to_save:
            self._save()
        self._running_since_s = time.perf_counter()

    def _evaluate(self) -> None:
        for link in self._links:
            link.evaluate(self._train_s)

    @part("saving")
    def _save(self) -> None:
        tensors, counts = self._batches.state()
        facts: dict[str, Any] = {"batches": counts, "train_s": self._train_s, "links": {}}
        for link in self._links:
            of_link, facts_of_link = link.state()
            name = str(link.chain.layer)
            tensors |= {f"{name}.{key}": tensor for key, tensor in of_link.items()}
            facts["links"][name] = facts_of_link
        if self._ranks.rank == 0:
            save_state(self._state_path, tensors, facts)
        self._saved_tokens = self._done_tokens

    def _restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Go on where a broken attempt saved its state; some of its layers may be done by now."""
        names = list(facts["links"])
        for link in self._links:
            prefix = f"{link.chain.layer}."
            own = {
                key.removeprefix(prefix): tensor
                for key, tensor in tensors.items()
                if key.startswith(prefix)
            }
            link.restore(own, facts["links"][str(link.chain.layer)])
        places = [names.index(str(link.chain.layer)) for link in self._links]
        self._batches.restore(tensors, facts["batches"], places)
        self._train_s = facts["train_s"]
        log.info("%s: goes on at %s tokens", self._label, f"{self._done_tokens:,}")


def _start(
    chain: Chain,
    link: Link,
    _: Recorder,
    x: Float[Tensor, "tokens d_in"],
    training_context: TrainingContext,
) -> Start:
    config, ranks = chain.config, training_context.ranks
    loss_config, precision = config.loss, config.encoder_precision
    if link.parent_identity is None:
        return cold_start(x, config.d_sae, loss_config, config.seed, precision, ranks)
    with part("registry"):
        parent = training_context.store.parent(chain, link)
    if parent.sae.d_in != x.shape[1]:
        raise UserError(
            f"{chain.name}: the parent of {chain.label(link)} has d_in={parent.sae.d_in}, the LM's "
            f"residuals have {x.shape[1]}"
        )
    return warm_start(parent, config.warm_start, x, loss_config, precision, ranks)


def _blank_start(chain: Chain, stream: ActivationsStore) -> Start:
    """A start that a saved state overwrites."""
    config = chain.config
    ranks = stream.ranks
    sae = SAE(stream.lm.d_in, config.d_sae // ranks.count, ranks).to(stream.lm.device)
    step = TrainStep(sae, config.loss, config.encoder_precision)
    return Start(step, 0.0)


def _open_link(
    lm: HookedLM,
    held_out: Float[Tensor, "tokens d_in"],
    start: Start,
    chain: Chain,
    link: Link,
    recorder: Recorder,
) -> LinkTraining:
    config = chain.config
    ce_loss = None
    if config.evaluation.ce_tokens:
        ce_loss = measure_ce_loss(
            lm,
            chain.corpus,
            chain.layer,
            config.evaluation.ce_tokens,
            held_out.mean(dim=0),
            exclude_bos=config.corpus.exclude_bos,
        )
    return LinkTraining(chain, link, start, held_out, ce_loss, recorder)
