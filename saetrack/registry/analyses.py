"""Results of analyses of registered links, each kept as a run of an LM's experiment."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Run
from mlflow.exceptions import MlflowException

from saetrack.registry.artifacts import folder_here, folder_of
from saetrack.registry.chain_run import ChainRuns
from saetrack.registry.claims import heartbeat, is_alive, owner_tags, runs_of
from saetrack.registry.connection import now_ms
from saetrack.registry.explanations import ExplanationRuns
from saetrack.registry.facts import as_tags
from saetrack.registry.lives import DIRECTION_LIVES, LIVES, lives_in_place
from saetrack.registry.shown import shown_of
from saetrack.utils.errors import UserError

ANALYSING = "tags.kind = 'analysis' and attributes.status = 'RUNNING'"


@dataclass(frozen=True)
class LoggedReport:
    """A finished run of an analysis, a comparison or replicates.

    Attributes:
        run_id: in MLflow.
        title: of the run.
        tags: its facts, as text.
        metrics: its numbers.
    """

    run_id: str
    title: str
    tags: dict[str, str]
    metrics: dict[str, float]


def _logged(run: Run) -> LoggedReport:
    name = str(run.info.run_name)
    return LoggedReport(run.info.run_id, name, run.data.tags, run.data.metrics)


class Reports:
    """Tables, figures and numbers of each analysis, found by the hash of what it was made from.

    Attributes:
        explanations: runs that explain features of analysed chains; `log` keeps them too.
    """

    def __init__(self, client: MlflowClient, runs: ChainRuns, cache_dir: Path) -> None:
        """Of a registry; life stores of another machine are kept in the cache."""
        self._client = client
        self._runs = runs
        self._cache_dir = cache_dir
        self.explanations = ExplanationRuns(client)

    def has(self, lm_name: str, identity: str) -> bool:
        """Whether an analysis of that identity is registered, and whole."""
        return self._find(lm_name, identity) is not None

    def log(
        self,
        lm_name: str,
        title: str,
        folder: Path,
        *,
        metrics: dict[str, float],
        facts: dict[str, Any],
    ) -> None:
        """Keep tables, figures and numbers as a run of an LM's experiment.

        Args:
            lm_name: names the experiment.
            title: of the run.
            folder: its files are logged.
            metrics: numbers to compare runs by.
            facts: tags; `identity` is the hash of what the analysis was made from. What an earlier,
                broken attempt left under it is deleted.
        """
        experiment_id = self._runs.experiment(lm_name)
        for broken in runs_of(self._client, experiment_id, facts["identity"]):
            self._client.delete_run(broken.info.run_id)
        run = self._client.create_run(experiment_id, run_name=title, tags=as_tags(facts))
        self.add(run.info.run_id, folder, metrics)
        self._client.set_terminated(run.info.run_id)

    @contextmanager
    def announced(self, lm_name: str, title: str, chain_name: str) -> Iterator[None]:
        """While the block lasts others see that a chain is being analysed: a run that is RUNNING.

        It goes with the block, and what was left of those that were killed goes before; the
        analysis itself is kept by `log`.

        Args:
            lm_name: names the experiment.
            title: of the run.
            chain_name: of the chain.
        """
        experiment_id = self._runs.experiment(lm_name)
        condition = f"{ANALYSING} and tags.chain = '{chain_name}'"
        for left in self._client.search_runs([experiment_id], condition):
            if not is_alive(left):
                self._client.delete_run(left.info.run_id)
        tags = {"kind": "analysis", "chain": chain_name, **owner_tags()}
        run_id = self._client.create_run(experiment_id, run_name=title, tags=tags).info.run_id
        try:
            with heartbeat(self._client, run_id):
                yield
        finally:
            with suppress(MlflowException):  # deleted by hand
                self._client.delete_run(run_id)

    @contextmanager
    def files(self, lm_name: str, identity: str) -> Iterator[Path]:
        """The files of an analysis, its life store aside, for as long as the block lasts."""
        run_id = self._find(lm_name, identity)
        assert run_id is not None, "there is no such analysis"
        with self._downloaded(run_id) as folder:
            yield folder

    @contextmanager
    def of_chain(self, chain_name: str) -> Iterator[tuple[str, Path]]:
        """Run and files of the analysis of a chain that is shown, for as long as the block lasts.

        Its life store is not among them (`lives_folder`).

        Raises:
            UserError: it was never analysed.
        """
        run_id = self._shown_run(chain_name)
        with self._downloaded(run_id) as folder:
            yield run_id, folder

    def newest(self, kind: str) -> list[LoggedReport]:
        """The finished runs of a kind, the newest first; of those of one chain that which is shown.

        Args:
            kind: `analysis`, `comparison`, `replicates`.
        """
        experiments = [found.experiment_id for found in self._client.search_experiments()]
        found: dict[str, list[Run]] = defaultdict(list)
        condition = f"tags.kind = '{kind}' and attributes.status = 'FINISHED'"
        token = None
        while True:
            runs = self._client.search_runs(
                experiments,
                condition,
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )
            for run in runs:
                key = run.data.tags.get("chain") or run.info.run_id
                found[key].append(run)
            if not (token := runs.token):
                return [_logged(shown_of(of_one)[0]) for of_one in found.values()]

    def run_of(self, lm_name: str, identity: str) -> LoggedReport:
        """The run of an analysis of that identity, which there must be."""
        run_id = self._find(lm_name, identity)
        assert run_id is not None, "there is no such analysis"
        return _logged(self._client.get_run(run_id))

    def where(self, lm_name: str, identity: str, page: str = "") -> str:
        """Where a report of that identity, which there must be, is found: as the end of a line.

        Args:
            lm_name: names the experiment.
            identity: of the report.
            page: a file among its own that a person opens first.
        """
        run = self._client.get_run(self.run_of(lm_name, identity).run_id)
        folder = folder_of(run.info.artifact_uri)
        lies = page if folder is None else str(folder / page)
        place = f"in MLflow's experiment {lm_name}, run {run.info.run_id}"
        return f"{place}: {lies}" if lies else place

    @contextmanager
    def part(self, run_id: str, name: str) -> Iterator[Path]:
        """A folder or a file of a run, for as long as the block lasts.

        Raises:
            UserError: the run has none.
        """
        with tempfile.TemporaryDirectory() as folder:
            self._require_files(run_id)
            try:
                found = self._client.download_artifacts(run_id, name, dst_path=folder)
            except (MlflowException, OSError):
                raise UserError(f"run={run_id}: has no {name}; it is of another release") from None
            yield Path(found)

    def lives_folder(self, chain_name: str) -> Path:
        """The life store of the analysis of a chain that is shown, in place where it lies here.

        Raises:
            UserError: it was never analysed, or by a release that kept no life store.
        """
        run_id = self._shown_run(chain_name)
        folder = lives_in_place(self._client, run_id, chain_name, self._cache_dir)
        if folder is None:
            raise UserError(
                f"chain={chain_name!r}: its analysis was made by an earlier release, without a "
                "life store; analyse it again (saetrack analyze)"
            )
        return folder

    def direction_lives_folder(self, chain_name: str) -> Path | None:
        """The life store of random directions of the same analysis; None if it kept none.

        Raises:
            UserError: the chain was never analysed.
        """
        run_id = self._shown_run(chain_name)
        return lives_in_place(self._client, run_id, chain_name, self._cache_dir, DIRECTION_LIVES)

    def _shown_run(self, chain_name: str) -> str:
        experiments = [found.experiment_id for found in self._client.search_experiments()]
        runs = self._client.search_runs(
            experiments,
            "tags.kind = 'analysis' and attributes.status = 'FINISHED'",
            max_results=5000,
        )
        found = [run for run in runs if run.data.tags["chain"] == chain_name]
        if not found:
            raise UserError(
                f"chain={chain_name!r}: was not analysed yet (saetrack analyze {chain_name})"
            )
        return str(shown_of(found)[0].info.run_id)

    @contextmanager
    def _downloaded(self, run_id: str) -> Iterator[Path]:
        """All files but the life stores, which may have gigabytes."""
        self._require_files(run_id)
        with tempfile.TemporaryDirectory() as folder:
            for found in self._client.list_artifacts(run_id):
                if found.path not in (LIVES, DIRECTION_LIVES):
                    self._client.download_artifacts(run_id, found.path, dst_path=folder)
            yield Path(folder)

    def _require_files(self, run_id: str) -> None:
        """MLflow finds nothing, and says nothing, where the folder of a run is not there."""
        info = self._client.get_run(run_id).info
        folder_here(info.artifact_uri, f"{info.run_name}: its files")

    def add(self, run_id: str, folder: Path, metrics: dict[str, float]) -> None:
        """Add files and numbers to an analysis; what has the same name is replaced."""
        points = [Metric(name, value, now_ms(), 0) for name, value in metrics.items()]
        self._client.log_batch(run_id, metrics=points)
        self._client.log_artifacts(run_id, str(folder))

    def _find(self, lm_name: str, identity: str) -> str | None:
        experiment_id = self._runs.standing_experiment(lm_name)
        if experiment_id is None:
            return None
        for run in runs_of(self._client, experiment_id, identity):
            if run.info.status == "FINISHED":
                return str(run.info.run_id)
        return None
