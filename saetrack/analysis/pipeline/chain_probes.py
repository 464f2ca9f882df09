"""The probes of a chain: their examples, chosen once, and what each checkpoint makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from saetrack.analysis.contexts.liveness import live_features
from saetrack.analysis.pipeline.checkpoint_result import readable
from saetrack.analysis.probes.pools import Pool, text_pool, token_pools, why_left_out
from saetrack.analysis.probes.sparse_probes import COLUMNS, Examples, probe_table
from saetrack.data.labelled_texts import labelled_sets, labelled_version, require_sets
from saetrack.lm.token_texts import texts_with_blanks
from saetrack.utils.files import whole_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Int

    from saetrack.analysis.formation.progress_measure import PointActivations
    from saetrack.analysis.pipeline.analysis_text import AnalysisText
    from saetrack.analysis.pipeline.config import AnalyzeConfig
    from saetrack.analysis.pipeline.feature_pass import FeaturePass
    from saetrack.analysis.pipeline.registered_chain import RegisteredChain

FIELD = "probe_texts"


@dataclass(frozen=True)
class Task:
    """A task, and where its examples are.

    Attributes:
        pool: labels and what splits need.
        where: rows and positions in the analysis split, (2, examples); None if examples are texts.
        texts: the tokens of each, BOS first; None if examples are positions.
    """

    pool: Pool
    where: Int[np.ndarray, "2 examples"] | None
    texts: list[Int[np.ndarray, " tokens"]] | None


@dataclass(frozen=True)
class ChainProbes:
    """The tasks of a chain.

    Attributes:
        tasks: those that can be asked about.
        seeds: of the splits.
        about: all tasks: `task`, `of_class` (examples of each class), `left_out` (why, or empty).
    """

    tasks: list[Task]
    seeds: Sequence[int]
    about: pd.DataFrame

    @property
    def points(self) -> dict[str, tuple[Int[np.ndarray, " points"], Int[np.ndarray, " points"]]]:
        """Rows and positions that the pass over a checkpoint must read, by name."""
        return {
            _name(task): (task.where[0], task.where[1])
            for task in self.tasks
            if task.where is not None
        }

    def read(
        self,
        feature_pass: FeaturePass,
        activations: PointActivations,
        sets: dict[str, Int[np.ndarray, "..."]],
        status: pd.DataFrame,
    ) -> pd.DataFrame:
        """All probes at a checkpoint (`saetrack.analysis.probes.sparse_probes`).

        Args:
            feature_pass: of the checkpoint; texts of their own are read through it.
            activations: at the union of all datapoints.
            sets: indices in the union, by the names of `points`.
            status: which features are live (`saetrack.analysis.contexts.liveness`).
        """
        live = live_features(status)
        tables = []
        for task in self.tasks:
            if task.texts is None:
                index, of_all = sets[_name(task)], activations.feature_acts
                assert of_all is not None  # a pass over a checkpoint keeps them
                x, acts = activations.x[torch.from_numpy(index)], of_all[index]
            else:
                x, acts = feature_pass.at_ends(task.texts)
            of_task = task.pool, Examples(x.numpy(), acts), live, self.seeds, activations.lm_step
            # Probes are small: two threads of OpenBLAS take four to nine times as long as one.
            with threadpool_limits(1, user_api="blas"):
                tables.append(probe_table(*of_task))
        nothing = pd.DataFrame(columns=list(COLUMNS))
        return pd.concat(tables, ignore_index=True) if tables else nothing


def require_probe_texts(config: AnalyzeConfig) -> None:
    """Check that the texts of probes are where the config says.

    Raises:
        UserError: there are none.
    """
    if config.probe_texts is not None:
        require_sets(config.probe_texts, FIELD)


def probe_texts_version(config: AnalyzeConfig) -> Any:
    """What the texts of probes depend on, JSON-able."""
    used = config.probe_texts is not None and config.probe_tokens
    return labelled_version(str(config.probe_texts)) if used else None


def choose_probes(
    registered: RegisteredChain, config: AnalyzeConfig, text: AnalysisText
) -> ChainProbes:
    """Draw the examples of all tasks.

    Raises:
        UserError: texts of probes cannot be read.
    """
    seeds = [config.seed + number for number in range(config.probe_seeds)]
    tasks, about = [], []
    if config.probe_tokens:
        for task, unfit in _all_tasks(registered, config, text):
            reason = unfit or why_left_out(task.pool, seeds)
            about.append((task.pool.task, len(task.pool.labels) // 2, reason))
            tasks += [] if reason else [task]
    columns = ["task", "of_class", "left_out"]
    return ChainProbes(tasks, seeds, pd.DataFrame(about, columns=columns))


def _all_tasks(
    registered: RegisteredChain, config: AnalyzeConfig, text: AnalysisText
) -> Iterator[tuple[Task, str]]:
    """Each with why it is of no use, or nothing."""
    rows, tokenizer = text.token_rows, text.tokenizer
    special = set(tokenizer.all_special_ids)
    texts = [
        None if token in special else of_token
        for token, of_token in enumerate(texts_with_blanks(tokenizer, range(text.vocabulary)))
    ]
    kept = text.excluded.kept_in(rows)
    for found in token_pools(rows, kept, texts, config.probe_tokens, config.seed):
        yield Task(found.pool, np.stack([found.rows, found.positions]), None), ""
    if config.probe_texts is None:
        return
    corpus = registered.chain.corpus
    for one in labelled_sets(config.probe_texts, FIELD):
        pool, chosen = text_pool(one.name, one.texts, one.labels, config.probe_tokens, config.seed)
        cut = []
        for number in chosen:
            ids = tokenizer(one.texts[number], add_special_tokens=False)["input_ids"]
            last = ids[-(corpus.context_size - 1) :]
            cut.append(np.array([corpus.bos_token_id, *last], np.int32))
        yield Task(pool, None, cut), one.left_out


def save_probes(folder: Path, probes: ChainProbes) -> None:
    """Keep what was chosen."""
    arrays: dict[str, Any] = {"seeds": np.array(probes.seeds)}
    for number, task in enumerate(probes.tasks):
        found: dict[str, Any] = {"labels": task.pool.labels, "groups": task.pool.groups}
        if task.texts is None:
            found |= {"tokens": task.pool.tokens, "where": task.where}
        else:
            found["texts"] = np.concatenate(task.texts)
            found["lengths"] = np.array([len(text) for text in task.texts])
        arrays |= {f"{number} {name}": array for name, array in found.items()}
    with whole_folder(folder) as draft:
        probes.about.to_parquet(draft / "about.parquet")
        np.savez(draft / "probes.npz", **arrays)


def load_probes(folder: Path) -> ChainProbes:
    """Read what `save_probes` kept.

    Raises:
        UserError: it cannot be read.
    """
    with readable(folder):
        about = pd.read_parquet(folder / "about.parquet")
        with np.load(folder / "probes.npz", allow_pickle=False) as file:
            arrays = dict(file)
        names = about.loc[about["left_out"] == "", "task"]
        tasks = [_loaded(name, number, arrays) for number, name in enumerate(names)]
        return ChainProbes(tasks, arrays["seeds"].tolist(), about)


def _loaded(name: str, number: int, arrays: dict[str, np.ndarray]) -> Task:
    def of(what: str) -> Any:
        return arrays.get(f"{number} {what}")

    texts = None
    if of("texts") is not None:
        texts = np.split(of("texts"), np.cumsum(of("lengths"))[:-1])
    return Task(Pool(name, of("labels"), of("groups"), of("tokens")), of("where"), texts)


def _name(task: Task) -> str:
    return f"probe {task.pool.task}"
