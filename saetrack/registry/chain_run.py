"""A chain's page: one MLflow run above those of its links, with curves, a table and a figure."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from saetrack.chain.plan import Chain
from saetrack.registry.artifacts import folder_here, folder_of, require_own_folder
from saetrack.registry.claims import is_alive
from saetrack.registry.connection import named, now_ms
from saetrack.registry.facts import (
    LACKING,
    PLANNED,
    as_params,
    as_tags,
    chain_facts,
    current_names,
    from_params,
)
from saetrack.registry.received import model_and_dataset
from saetrack.registry.views import add_views
from saetrack.utils.files import content_hash, write_atomically
from saetrack.utils.settings import Settings

if TYPE_CHECKING:
    from mlflow.entities import Run

log = logging.getLogger(__name__)

CHAIN_NOTE = (
    "A chain of SAEs over an LM's training checkpoints. Charts run over the chain's training "
    "tokens (MLflow calls them Step), one point a link. `chain.png`, `links.csv`: under Artifacts."
)
STANDING = "chain_run"  # tag of the chain's model
RUNNING = "RUNNING"
TAG_CHARACTERS = 5000
NO_CURVES = {"link", "checkpoint_index", "tokens", "version"}


class ChainRuns:
    """Runs of chains, in one experiment per LM."""

    def __init__(self, client: MlflowClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._ids: dict[str, tuple[str, str]] = {}

    def of(self, chain: Chain) -> Run:
        """The run of a chain, begun if there is none."""
        if standing := self._standing(chain):
            return standing
        experiment_id = self.experiment(chain.lm_name)
        if standing := self._standing(chain):  # the experiment had been deleted, and its runs
            return standing
        add_views(self._client, experiment_id)
        tags = {
            "kind": "chain",
            "chain": chain.name,
            "mlflow.note.content": CHAIN_NOTE,
            **as_tags(chain_facts(chain)),
        }
        track = chain.config.model_dump(mode="json")
        begun = json.dumps(model_and_dataset(track)).encode()
        write_atomically(self._begun(chain.name), begun)
        run = self._client.create_run(experiment_id, run_name=chain.name, tags=tags)
        try:
            self._client.log_batch(run.info.run_id, params=as_params(track))
        except MlflowException:
            if standing := self._standing(chain):  # a rival's, which has deleted ours meanwhile
                return standing
            raise
        return self._agree(chain, run)

    def _agree(self, chain: Chain, ours: Run) -> Run:
        """One run for all processes that begin the chain at the same moment.

        The database takes a model's name once, whoever asks: the run that its model names stands.
        """
        tags = {**as_tags(chain_facts(chain)), STANDING: ours.info.run_id}
        try:
            self._client.create_registered_model(chain.name, tags=tags)
            standing = ours
        except MlflowException:
            # Its model may name none yet, or one that was deleted by hand.
            standing = self._standing(chain) or self._find(ours.info.experiment_id, chain)[0]
            run_id = standing.info.run_id
            self._client.set_registered_model_tag(chain.name, STANDING, run_id)
        for other in self._find(ours.info.experiment_id, chain):
            if other.info.run_id != standing.info.run_id:
                with contextlib.suppress(MlflowException):  # a rival may have done it
                    self._client.delete_run(other.info.run_id)
        return standing

    def _standing(self, chain: Chain) -> Run | None:
        """The run that the chain's model names."""
        try:
            run_id = self._client.get_registered_model(chain.name).tags[STANDING]
            run = self._client.get_run(run_id)
        except (MlflowException, KeyError):
            return None
        return run if run.info.lifecycle_stage == "active" else None

    def ids_of(self, chain: Chain) -> tuple[str, str]:
        """Experiment and run of a chain that is to get links, begun if there is none.

        The server is asked once. From then on the run is RUNNING, until it is finished or breaks
        off.
        """
        if chain.name not in self._ids:
            run = self.of(chain)
            self._tell_extent(run, chain)
            if run.info.status != RUNNING:
                self._client.update_run(run.info.run_id, status=RUNNING)
            self._ids[chain.name] = run.info.experiment_id, run.info.run_id
        return self._ids[chain.name]

    def _tell_extent(self, run: Run, chain: Chain) -> None:
        """A folder may have more checkpoints by now, or others that are broken."""
        for tag, text in ((PLANNED, str(len(chain.links))), (LACKING, _as_tag(chain.lacking))):
            if run.data.tags.get(tag, "") != text:
                self._client.set_tag(run.info.run_id, tag, text)

    def tracks(self, condition: str = "") -> dict[str, dict[str, Any]]:
        """The track parameters of every chain that meets a condition, by the chain's name."""
        return {
            run.data.tags["chain"]: current_names(from_params(run.data.params))
            for run in self._all(condition)
        }

    def planned(self) -> dict[str, int]:
        """How many links each chain will have; a chain of an older release does not say it."""
        runs = [run for run in self._all() if PLANNED in run.data.tags]
        return {run.data.tags["chain"]: int(run.data.tags[PLANNED]) for run in runs}

    def lacking(self, condition: str = "") -> dict[str, list[str]]:
        """Which checkpoints each chain lacks, since something is wrong with them: a line each."""
        runs = [run for run in self._all(condition) if run.data.tags.get(LACKING)]
        return {run.data.tags["chain"]: run.data.tags[LACKING].split("\n") for run in runs}

    def break_off(self, chain: Chain) -> None:
        """Mark the run of a chain FAILED, if it has begun here and is not finished."""
        if chain.name in self._ids:
            run_id = self._ids.pop(chain.name)[1]
            if self._client.get_run(run_id).info.status == RUNNING:
                self._client.set_terminated(run_id, "FAILED")

    def _all(self, condition: str = "") -> list[Run]:
        experiments = [found.experiment_id for found in self._client.search_experiments()]
        condition = f"tags.kind = 'chain'{condition}"
        return list(self._client.search_runs(experiments, condition, max_results=50_000))

    def was_begun_here(self, chain_name: str, track: dict[str, Any]) -> bool:
        """Whether a track's folders are those with which this machine began a chain.

        The registry is not asked: whoever can write to it must not make this machine read a folder.
        """
        path = self._begun(chain_name)
        return path.exists() and json.loads(path.read_text()) == list(model_and_dataset(track))

    def _begun(self, chain_name: str) -> Path:
        return self._settings.cache_dir / "begun" / f"{content_hash(chain_name)[:32]}.json"

    def _find(self, experiment_id: str, chain: Chain) -> list[Run]:
        condition = f"tags.kind = 'chain' and tags.chain = '{chain.name}'"
        found = self._client.search_runs([experiment_id], condition)
        return sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))

    def experiment(self, name: str) -> str:
        """The id of an LM's experiment to write to: made if there is none, restored if deleted.

        Raises:
            UserError: its files would go to the folder of another registry.
        """
        if found := self._client.get_experiment_by_name(name):
            require_own_folder(found.artifact_location, f"files of {name}", self._settings)
            if found.lifecycle_stage == "deleted":
                log.warning("MLflow's experiment %s had been deleted: it is restored", name)
                self._client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        served = self._settings.tracking_uri.startswith("http")
        location = None if served else self._settings.artifact_dir.as_uri()
        try:
            return str(self._client.create_experiment(name, artifact_location=location))
        except MlflowException:
            if found := self._client.get_experiment_by_name(name):  # another process was first
                return str(found.experiment_id)
            raise

    def standing_experiment(self, name: str) -> str | None:
        """The id of an LM's experiment to read from; None if there is none, or it was deleted."""
        found = self._client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage == "deleted":
            return None
        return str(found.experiment_id)

    def require_files(self, name: str, *, writes: bool = False) -> None:
        """Check that the folder is there that keeps the files of an LM's chains, if any is trained.

        A registry in a file names it absolutely; MLflow would make it anew, and write there.

        Args:
            name: of the LM.
            writes: whether files are to be added; then the folder must not be another registry's.

        Raises:
            UserError: it is not, or cannot be written.
        """
        if writes:
            self._settings.require_writable()
        found = self._client.get_experiment_by_name(name)
        folder = None if found is None else folder_of(found.artifact_location)
        if found is None or folder is None:
            return
        if folder.is_dir():
            if writes:
                require_own_folder(found.artifact_location, f"files of {name}", self._settings)
            return
        trained = "tags.kind = 'link' and attributes.status = 'FINISHED'"
        if self._client.search_runs([found.experiment_id], trained, max_results=1):
            whose = f"{named(self._settings.tracking_uri)}: files of {name}'s chains"
            folder_here(found.artifact_location, whose)

    def require_files_of(self, chain_name: str, *, writes: bool) -> None:
        """The same of the LM of a chain."""
        for run in self._all(f" and tags.chain = '{chain_name}'"):
            lm_name = self._client.get_experiment(run.info.experiment_id).name
            self.require_files(lm_name, writes=writes)

    def is_finished(self, chain: Chain) -> bool:
        """Whether a chain's page shows all of its links."""
        run = self.of(chain)
        return bool(
            run.info.status == "FINISHED"
            and run.data.tags.get("links") == str(len(chain.links))
            and run.data.tags.get(LACKING, "") == _as_tag(chain.lacking)
        )

    def update(
        self,
        chain: Chain,
        table: pd.DataFrame,
        versions: dict[str, int],
        figures: Path,
        *,
        whole: bool,
    ) -> None:
        """Curves over the chain's cumulative training tokens, `links.csv`, and figures."""
        run = self.of(chain)
        add_views(self._client, run.info.experiment_id)
        self._repair_link_runs(run, chain, versions)
        history = self._client.get_metric_history(run.info.run_id, "lm_step")
        logged = {point.step for point in history}
        time_ms = now_ms()
        chain_tokens = table["tokens"].cumsum()
        for tokens, (_, row) in zip(chain_tokens, table.iterrows(), strict=True):
            if tokens not in logged:
                points = [
                    Metric(str(name), float(value), time_ms, int(tokens))
                    for name, value in row.items()
                    if name not in NO_CURVES and not math.isnan(value)
                ]
                points.append(Metric("chain_tokens", float(tokens), time_ms, int(tokens)))
                self._client.log_batch(run.info.run_id, metrics=points)
        with tempfile.TemporaryDirectory() as folder:
            table.to_csv(Path(folder) / "links.csv", index=False)
            self._client.log_artifacts(run.info.run_id, folder)
        self._client.log_artifacts(run.info.run_id, str(figures))
        if whole:
            self._client.set_tag(run.info.run_id, "links", str(len(chain.links)))
            self._client.set_terminated(run.info.run_id)

    def note(self, chain: Chain, lines: list[str]) -> None:
        """Put what looks wrong with the chain's links, and what was left out, on its page."""
        items = [f"- {line}" for line in lines]
        text = "\n".join([CHAIN_NOTE, *(["", "**Warnings**", "", *items] if items else [])])
        run = self.of(chain)
        self._tell_extent(run, chain)
        self._client.set_tag(run.info.run_id, "mlflow.note.content", text)

    def _repair_link_runs(self, run: Run, chain: Chain, versions: dict[str, int]) -> None:
        """Finish the runs of registered links whose process ended before it could."""
        condition = f"tags.kind = 'link' and tags.chain = '{chain.name}'"
        for link_run in self._client.search_runs(
            [run.info.experiment_id], condition, max_results=5000
        ):
            open_still = link_run.info.status != "FINISHED" and not is_alive(link_run)
            if open_still and link_run.data.tags["identity"] in versions:
                self._client.set_terminated(link_run.info.run_id)


def _as_tag(lines: tuple[str, ...]) -> str:
    """Lines in a tag, which holds 5000 characters."""
    return "\n".join(lines)[:TAG_CHARACTERS]
