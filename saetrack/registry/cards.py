"""One card per chain, for a page that asks again every few seconds.

What is registered stays as it is: metrics of a link are asked for once, versions and tags of a
chain when it has changed. What is asked each time is small, however many links there are.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from saetrack.lm.hook import parse_hook
from saetrack.registry.claims import is_alive
from saetrack.registry.connection import connect
from saetrack.registry.facts import PLANNED, WARNINGS, current_names, from_params
from saetrack.registry.imported import KIND
from saetrack.registry.lives import LIVES
from saetrack.registry.overview import with_nats_lost
from saetrack.registry.shown import shown_of
from saetrack.registry.versions import LinkVersions
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

CURVES = ("explained_variance", "l0", "dead", "ce_loss_recovered", "nats_lost")
FIGURES = "figures"  # folder of an analysis' run
RUNS_AT_ONCE = 200  # in one condition of MLflow's
# A chain that was deleted is on its page for so long, unless another one changes.
LISTED_S = 30.0


@dataclass(frozen=True)
class RunAt:
    """Where MLflow shows a run."""

    experiment_id: str
    run_id: str


@dataclass(frozen=True)
class AnalysisCard:
    """The analysis of a chain that is shown (`saetrack.registry.shown`).

    Attributes:
        run: of it.
        figures: its pictures, by their paths there.
        has_lives: whether it has a life store; those of earlier releases have none.
        newer: how many analyses are newer, with fewer controls, and not shown.
    """

    run: RunAt
    figures: tuple[str, ...]
    has_lives: bool
    newer: int = 0


@dataclass(frozen=True)
class Analysing:
    """An analysis that is being made: its run, and since when."""

    run_id: str
    since_ms: int


@dataclass(frozen=True)
class ChainCard:
    """What a page shows of one chain.

    Attributes:
        layer: None where the hook is not one of this release's.
        planned: how many links the chain will have; None where that is not known.
        is_training: a process that lives trains a link of it.
        changed_ms: when it grew last.
        warnings: of how many links something looks wrong.
        links: in the chain's order: `lm_step`, `tokens`, and CURVES; None where one lacks it.
        analysing: a process that lives analyses it.
    """

    name: str
    lm: str
    hook: str
    layer: int | None
    architecture: str
    direction: str
    seed: int | None
    d_sae: int | None
    registered: int
    planned: int | None
    is_training: bool
    changed_ms: int
    warnings: int
    links: dict[str, list[float | int | None]]
    run: RunAt | None
    analysis: AnalysisCard | None
    analysing: Analysing | None = None


@dataclass
class _Seen:
    """What is known of one chain since it changed last."""

    stamp: int
    tags: dict[str, str]
    run: Run | None
    links: list[ModelVersion] = field(default_factory=list)


class ChainCards:
    """Cards of all registered chains; imported SAEs are none. Threads may ask at the same time."""

    def __init__(self, settings: Settings) -> None:
        """Connect to the registry of the settings.

        Raises:
            UserError: nothing answers at the tracking address.
        """
        self._client = connect(settings.tracking_uri)
        self._versions = LinkVersions(self._client)
        self._lock = threading.Lock()
        self._seen: dict[str, _Seen] = {}
        self._metrics: dict[str, dict[str, float]] = {}  # of a link's run
        self._analyses: dict[str, AnalysisCard] = {}  # by run
        self._newest: object = None
        self._listed_s = -LISTED_S

    def all(self) -> list[ChainCard]:
        """The one that grew last first."""
        with self._lock:
            experiments = [found.experiment_id for found in self._client.search_experiments()]
            training, analysing = self._running(experiments)
            self._look(experiments, training)
            analyses = self._shown_analyses(experiments)
            cards = [
                self._card(name, seen, name in training, analyses.get(name), analysing.get(name))
                for name, seen in self._seen.items()
                if seen.links or name in training
            ]
        return sorted(cards, key=lambda card: (card.is_training, card.changed_ms), reverse=True)

    def analysis(self, name: str) -> AnalysisCard | None:
        """The analysis of one chain that is shown; None if it was not analysed."""
        with self._lock:
            experiments = [found.experiment_id for found in self._client.search_experiments()]
            return self._shown_analyses(experiments).get(name)

    def _running(self, experiments: list[str]) -> tuple[set[str], dict[str, Analysing]]:
        """The chains that processes which live train, and those that they analyse."""
        condition = "attributes.status = 'RUNNING'"
        running = self._client.search_runs(experiments, condition, max_results=1000)
        of: dict[str, dict[str, Analysing]] = {"link": {}, "analysis": {}}
        for run in running:
            kind, chain = (run.data.tags.get(tag, "") for tag in ("kind", "chain"))
            if kind in of and is_alive(run):
                of[kind][chain] = Analysing(run.info.run_id, run.info.start_time)
        return set(of["link"]), of["analysis"]

    def _look(self, experiments: list[str], training: set[str]) -> None:
        """Read anew the chains that have changed."""
        newest = [
            (version.name, version.version, version.creation_timestamp)
            for version in self._client.search_model_versions(
                "", max_results=1, order_by=["creation_timestamp DESC"]
            )
        ]
        is_old = time.monotonic() - self._listed_s > LISTED_S
        if newest == self._newest and not is_old and training <= self._seen.keys():
            return
        stamps = {}
        for model in self._models():
            if not model.name.startswith(f"{KIND}."):
                stamps[model.name] = model.last_updated_timestamp, dict(model.tags)
        runs = {run.data.tags["chain"]: run for run in self._chain_runs(experiments)}
        self._seen = {name: seen for name, seen in self._seen.items() if name in stamps}
        for name, (stamp, tags) in stamps.items():
            seen = self._seen.get(name)
            if seen is None or seen.stamp != stamp:
                seen = _Seen(stamp, tags, None, self._links(name))
                self._seen[name] = seen
                self._ask_metrics(experiments, seen.links)
            seen.run = runs.get(name)
        self._newest, self._listed_s = newest, time.monotonic()

    def _models(self) -> Iterable[Any]:
        token = None
        while True:
            page = self._client.search_registered_models(max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _chain_runs(self, experiments: list[str]) -> list[Run]:
        found = self._client.search_runs(experiments, "tags.kind = 'chain'", max_results=50_000)
        return [run for run in found if "chain" in run.data.tags]

    def _links(self, name: str) -> list[ModelVersion]:
        """The links of a chain in its order; of two at one place the one registered last."""
        by_link: dict[int, ModelVersion] = {}
        try:
            for version in reversed(self._versions.of_chain(name)):
                by_link[int(version.tags["link"])] = version
        except (UserError, KeyError, ValueError):  # nothing that this release registered
            return []
        return [by_link[number] for number in sorted(by_link)]

    def _ask_metrics(self, experiments: list[str], links: list[ModelVersion]) -> None:
        lacking = [str(v.run_id) for v in links if str(v.run_id) not in self._metrics]
        for start in range(0, len(lacking), RUNS_AT_ONCE):
            some = lacking[start : start + RUNS_AT_ONCE]
            ids = ", ".join(f"'{run_id}'" for run_id in some)
            found = self._client.search_runs(
                experiments, f"attributes.run_id IN ({ids})", max_results=RUNS_AT_ONCE
            )
            for run in found:
                metrics = with_nats_lost(run.data.metrics)
                kept = {name: metrics[name] for name in CURVES if name in metrics}
                self._metrics[str(run.info.run_id)] = kept

    def _card(
        self,
        name: str,
        seen: _Seen,
        is_training: bool,
        analysis: AnalysisCard | None,
        analysing: Analysing | None,
    ) -> ChainCard:
        tags = {**seen.tags, **(seen.links[-1].tags if seen.links else {})}
        track = current_names(from_params(seen.run.data.params)) if seen.run else {}
        planned = _whole(seen.run.data.tags.get(PLANNED)) if seen.run else None
        times = [seen.stamp, *(version.creation_timestamp for version in seen.links[-1:])]
        hook, layer = _hook(tags)
        sae = track.get("sae")
        return ChainCard(
            name=name,
            lm=tags.get("lm", ""),
            hook=hook,
            layer=layer,
            architecture=str(sae.get("architecture", "")) if isinstance(sae, dict) else "",
            direction=tags.get("direction", ""),
            seed=_whole(tags.get("seed")),
            d_sae=_whole(track.get("d_sae")),
            registered=len(seen.links),
            planned=None if planned is None else max(planned, len(seen.links)),
            is_training=is_training,
            changed_ms=max(times),
            warnings=sum(bool(version.tags.get(WARNINGS)) for version in seen.links),
            links=self._curves(seen.links),
            run=RunAt(seen.run.info.experiment_id, seen.run.info.run_id) if seen.run else None,
            analysis=analysis,
            analysing=analysing,
        )

    def _curves(self, links: list[ModelVersion]) -> dict[str, list[float | int | None]]:
        metrics = [self._metrics.get(str(version.run_id), {}) for version in links]
        return {
            **{name: [_whole(v.tags.get(name)) for v in links] for name in ("lm_step", "tokens")},
            **{name: [found.get(name) for found in metrics] for name in CURVES},
        }

    def _shown_analyses(self, experiments: list[str]) -> dict[str, AnalysisCard]:
        """Of each chain that was analysed."""
        runs = self._client.search_runs(
            experiments,
            "tags.kind = 'analysis' and attributes.status = 'FINISHED'",
            max_results=5000,
        )
        of_chains: dict[str, list[Run]] = defaultdict(list)
        for run in runs:
            of_chains[run.data.tags.get("chain", "")].append(run)
        found = {}
        for name, of_chain in of_chains.items():
            shown, newer = shown_of(of_chain)
            at = RunAt(shown.info.experiment_id, shown.info.run_id)
            found[name] = replace(self._analysis(at), newer=newer)
        return found

    def _analysis(self, run: RunAt) -> AnalysisCard:
        if run.run_id not in self._analyses:
            folders = {found.path for found in self._client.list_artifacts(run.run_id)}
            figures = (
                found.path
                for found in self._client.list_artifacts(run.run_id, FIGURES)
                if found.path.endswith(".png")
            )
            card = AnalysisCard(run, tuple(sorted(figures)), LIVES in folders)
            self._analyses[run.run_id] = card
        return self._analyses[run.run_id]


def _hook(tags: dict[str, str]) -> tuple[str, int | None]:
    """A hook as configs write it, and its layer; one that this release lacks as it was written."""
    name = tags.get("hook_name", "")
    try:
        hook = parse_hook(name)
    except ValueError:
        return name, _whole(tags.get("layer"))
    return str(hook), hook.layer


def _whole(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None
