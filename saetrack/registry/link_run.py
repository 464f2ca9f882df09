"""Records one link as an MLflow run under its chain's run (saetrack.chain.link_store.Recorder)."""

from __future__ import annotations

import contextlib
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Self

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from saetrack.chain.link_store import TrainedLink
from saetrack.chain.plan import Chain, Link
from saetrack.registry.artifacts import SAE_FOLDER, folder_sha256
from saetrack.registry.claims import heartbeat, is_lost
from saetrack.registry.connection import now_ms
from saetrack.registry.facts import WARNINGS, as_params, as_tags, chain_facts, link_facts
from saetrack.sae.files import DENSITY_FILE, save_sae, save_tensors
from saetrack.utils.errors import UserError

if TYPE_CHECKING:
    from types import TracebackType

SECONDS_BETWEEN_REQUESTS = 5.0


class LinkRun(contextlib.AbstractContextManager["LinkRun"]):
    """A claimed run. While the block lasts it is alive; broken off, it is marked FAILED."""

    def __init__(
        self,
        client: MlflowClient,
        run_id: str,
        chain: Chain,
        link: Link,
        parent_version: int | None,
    ) -> None:
        self._client = client
        self._run_id = run_id
        self._chain = chain
        self._link = link
        self._facts = {**link_facts(chain, link), "parent_version": parent_version}
        self._heartbeat = heartbeat(client, run_id)
        self._unsent: list[Metric] = []
        self._sent_at_s = time.monotonic()
        params = {**chain.config.model_dump(mode="json"), "optimiser": asdict(link.optimiser)}
        client.log_batch(run_id, params=as_params({**params, "tokens": link.tokens}))

    def __enter__(self) -> Self:
        self._heartbeat.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._heartbeat.__exit__(None, None, None)
        if kind is not None:
            with contextlib.suppress(Exception):  # the first error is the one to report
                self._client.set_terminated(self._run_id, "FAILED")

    def log(self, metrics: dict[str, float], done_tokens: int) -> None:
        """Keep metrics measured after `done_tokens` training tokens.

        They are sent together every few seconds and before the link is registered: a request each
        would cost short links more than their training's optimiser does.
        """
        time_ms = now_ms()
        self._unsent += [Metric(name, v, time_ms, done_tokens) for name, v in metrics.items()]
        if time.monotonic() - self._sent_at_s >= SECONDS_BETWEEN_REQUESTS:
            self._send()

    def _send(self) -> None:
        self._client.log_batch(self._run_id, metrics=self._unsent)
        self._unsent = []
        self._sent_at_s = time.monotonic()

    def register(self, trained: TrainedLink) -> int:
        """Upload the link's files, then create its version in one transaction."""
        self.log(
            {
                "tokens_per_s": trained.tokens / trained.train_s,
                "residual_mean_distance": trained.residual_mean_distance,
            },
            trained.tokens,
        )
        self._send()
        self._facts["tokens"] = trained.tokens
        tags = {"tokens": str(trained.tokens)}
        if trained.warnings:
            tags[WARNINGS] = "; ".join(trained.warnings)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            self._write(folder, trained)
            sha256 = folder_sha256(folder)
            self._require_claim()
            self._client.log_artifacts(self._run_id, name, SAE_FOLDER)
        self._require_claim()  # an upload may take long
        version = create_version(
            self._client,
            self._chain,
            self._link,
            run_id=self._run_id,
            tags=as_tags({**self._facts, **tags, "sha256": sha256, "processes": trained.processes}),
        )
        for tag, text in tags.items():
            self._client.set_tag(self._run_id, tag, text)
        self._client.set_terminated(self._run_id)
        return version

    def _require_claim(self) -> None:
        if is_lost(self._client, self._run_id):
            raise UserError(
                f"{self._chain.name}, {self._chain.label(self._link)}: this process did not reach "
                "the registry for a minute, and another one took the link over; run again to go on"
            )

    def _write(self, folder: Path, trained: TrainedLink) -> None:
        cfg = {
            "dtype": "float32",
            "apply_b_dec_to_input": True,
            **self._facts,
            "track": self._chain.config.model_dump(mode="json"),
            "metrics": trained.metrics,
            "residual_mean_distance": trained.residual_mean_distance,
            "processes": trained.processes,
        }
        corpus = self._chain.config.corpus
        if excluded := self._chain.corpus.left_out(exclude_bos=corpus.exclude_bos).token_ids:
            cfg["excluded_token_ids"] = list(excluded)  # the config has some of them as text
        save_sae(folder, trained.sae, cfg)
        density = {"feature_density": trained.evaluation.feature_density}
        save_tensors(folder / DENSITY_FILE, density)


def create_version(
    client: MlflowClient, chain: Chain, link: Link, *, run_id: str, tags: dict[str, str]
) -> int:
    """Make a link count: its version appears with all its tags, or not at all."""
    with contextlib.suppress(MlflowException):  # it exists from the second link on
        client.create_registered_model(chain.name, tags=as_tags(chain_facts(chain)))
    version = client.create_model_version(
        chain.name,
        source=f"runs:/{run_id}/{SAE_FOLDER}",
        run_id=run_id,
        tags=tags,
        description=chain.label(link),
    )
    return int(version.version)
