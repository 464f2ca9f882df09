"""One link while it trains: evaluated on held-out tokens, ended, saved, and registered."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Self

from saetrack.chain.budget import Plateau
from saetrack.chain.link_store import Recorder, TrainedLink
from saetrack.chain.plan import Chain, Link
from saetrack.lm.ce_loss import CELoss
from saetrack.sae.metrics import Evaluation, evaluate
from saetrack.sae.trainer import Training
from saetrack.sae.warm_start import Start
from saetrack.training.plateau import PlateauWatch
from saetrack.training.soundness import require_finite_link, warnings_of
from saetrack.utils.timing import part

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

log = logging.getLogger(__name__)


class LinkTraining:
    """One link of a checkpoint, from its start to its registration."""

    def __init__(
        self,
        chain: Chain,
        link: Link,
        start: Start,
        held_out: Float[Tensor, "tokens d_in"],
        validation: Float[Tensor, "tokens d_in"] | None,
        ce_loss: CELoss | None,
        recorder: Recorder,
        notes: tuple[str, ...] = (),
    ) -> None:
        """A link before its first token, or one to `restore`.

        Args:
            chain: that it belongs to.
            link: what to train.
            start: the SAE before its first step.
            held_out: residuals to evaluate on.
            validation: residuals to look for a plateau on, where the link ends at one.
            ce_loss: measures the LM's loss with the SAE spliced in, where that is wanted.
            recorder: receives the metrics, and registers the link.
            notes: warnings that the log has already.
        """
        self.chain = chain
        self.link = link
        self.training = Training(start.step, link.optimiser)
        self._residual_mean_distance = start.residual_mean_distance
        self._held_out = held_out
        self._validation = validation
        budget = link.budget
        self._watch = PlateauWatch(budget) if isinstance(budget, Plateau) else None
        self._ended_s: float | None = None
        self._ce_loss = ce_loss
        self._recorder = recorder
        self._notes = (*link.checkpoint.notes, *notes)
        # Every evaluation so far, by training tokens. A link that goes on records them again, since
        # the registry has dropped the interrupted attempt.
        self._history: list[tuple[int, dict[str, float]]] = []

    def begin(self) -> None:
        """Evaluate before the first batch, whose step is dense or sparse as held-out tokens are."""
        step = self.training.step
        step.density = self.evaluate(0.0, ce=True).l0 / (step.sae.d_sae * step.sae.ranks.count)

    @part("metrics")
    def evaluate(self, train_s: float, *, ce: bool = False) -> Evaluation:
        """Measure on the held-out tokens, and record the metrics.

        Args:
            train_s: seconds of training so far.
            ce: whether to measure CE-loss recovered too, which costs a pass of the whole LM; done
                before a link's first and after its last token.
        """
        config = self.chain.config
        step = self.training.step
        evaluation = evaluate(
            step.sae,
            self._held_out,
            step.sae_config,
            config.evaluation.matched_l0,
        )
        metrics = {**evaluation.scalars(), "train_s": train_s}
        if ce and self._ce_loss is not None:
            metrics |= self._ce_loss.metrics(step.sae)
        self._record(self.training.done_tokens, metrics)
        return evaluation

    @part("metrics")
    def end_at_plateau(self, train_s: float) -> None:
        """End the training if a check is due and finds a plateau; all ranks must call this."""
        training, watch = self.training, self._watch
        if watch is None or training.has_ended or not watch.is_due(training.done_tokens):
            return
        step, matched_l0 = training.step, self.chain.config.evaluation.matched_l0
        assert self._validation is not None
        found = evaluate(step.sae, self._validation, step.sae_config, matched_l0)
        watch.found.append((training.done_tokens, found.loss))
        training.has_ended = step.sae.ranks.broadcast_from_rank0(watch.is_reached)
        if training.has_ended:
            self._ended_s = train_s
            if (line := watch.early_line()) is not None:
                log.info("%s, %s: %s", self.chain.name, self.chain.label(self.link), line)

    def finish(self, train_s: float) -> int:
        """Evaluate, record how the link started, and register it; returns its version.

        Args:
            train_s: seconds of training so far; where this link ended before, it keeps its own.

        Raises:
            UserError: a weight or a metric is not finite.
        """
        train_s = train_s if self._ended_s is None else self._ended_s
        evaluation = self.evaluate(train_s, ce=True)
        before, after = self._history[0][1], self._history[-1][1]
        assert self.training.first_loss is not None
        start = {
            "start_loss": self.training.first_loss,
            "start_explained_variance": before["explained_variance"],
            "start_dead": before["dead"],
            "sparse_share": self.training.step.sparse_steps / self.training.done_steps,
        }
        step = self.training.step
        ranks = step.sae.ranks
        sae = step.sae.unshard()
        name = f"{self.chain.name}, {self.chain.label(self.link)}"
        distance = {"residual_mean_distance": self._residual_mean_distance}
        require_finite_link(name, sae, {**after, **start, **distance})
        warnings = warnings_of(evaluation, self._held_out)
        for line in warnings:
            log.warning("%s: %s", name, line)
        trained = TrainedLink(
            sae=sae,
            evaluation=evaluation,
            metrics={**after, **start},
            tokens=self.training.done_tokens,
            train_s=train_s,
            residual_mean_distance=self._residual_mean_distance,
            processes=ranks.count,
            warnings=(*self._notes, *warnings),
        )
        with part("registry"):
            self._recorder.log(start, 0)
            version = self._recorder.register(trained)
        log.info("%s", self._finished_line(evaluation, train_s, version))
        return version

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and facts from which `restore` goes on."""
        training = self.training
        facts: dict[str, Any] = {
            "done_steps": training.done_steps,
            "done_tokens": training.done_tokens,
            "first_loss": training.first_loss,
            "residual_mean_distance": self._residual_mean_distance,
            "history": self._history,
        }
        if self._watch is not None:
            facts["plateau"] = {"found": self._watch.found, "ended_s": self._ended_s}
        return training.step.state(), facts

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> Self:
        """Go on from a `state`; the evaluations in it are recorded again."""
        training = self.training
        training.step.load(tensors)
        training.done_steps = facts["done_steps"]
        training.done_tokens = facts["done_tokens"]
        training.first_loss = facts["first_loss"]
        self._residual_mean_distance = facts["residual_mean_distance"]
        if self._watch is not None:
            found = facts["plateau"]["found"]
            self._watch.found = [(done_tokens, loss) for done_tokens, loss in found]
            self._ended_s = facts["plateau"]["ended_s"]
            training.has_ended = self._ended_s is not None
        for done_tokens, metrics in facts["history"]:
            self._record(done_tokens, metrics)
        return self

    def _finished_line(self, evaluation: Evaluation, train_s: float, version: int) -> str:
        done_tokens, most = self.training.done_tokens, self.link.tokens
        budget, ended = self.link.budget, ""
        if isinstance(budget, Plateau) and done_tokens < most:
            ended = f"{budget.until} at {done_tokens:,} of {most:,} tokens, "
        return (
            f"{self.chain.hook.short} {self.chain.label(self.link)}: "
            f"explained variance {evaluation.explained_variance:.3f}, L0 {evaluation.l0:.1f}, "
            f"dead {100 * evaluation.dead:.1f} %, {ended}{done_tokens / train_s:,.0f} tokens/s, "
            f"version {version}"
        )

    def _record(self, done_tokens: int, metrics: dict[str, float]) -> None:
        self._history.append((done_tokens, metrics))
        with part("registry"):
            self._recorder.log(metrics, done_tokens)
