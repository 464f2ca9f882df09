"""Checkpoints chosen by how far activations move, so that warm starts lose equally.

The choice is made once, from a pass of the LM's checkpoints over a few rows of text, and kept in
the cache. From then on the schedule is a list of LM steps like any other: chains hold that list.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from saetrack.chain.schedule import Adaptive
from saetrack.utils.device import choose_device
from saetrack.utils.files import content_hash, write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saetrack.chain.config import TrackConfig
    from saetrack.data.corpus import Corpus
    from saetrack.lm.checkpoints.source import CheckpointSource
    from saetrack.utils.settings import Settings

log = logging.getLogger(__name__)

# Raise when the choice changes, so that an old one is not taken for a new one.
VERSION = 1
MEASURED_TOKENS = 1024


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        lm: identity of the LM that it was measured on.
        lm_steps: of the chosen checkpoints, ascending.
        lost_variance: from each to the next (`saetrack.lm.movement`).
    """

    lm: str
    lm_steps: list[int]
    lost_variance: list[float]


def least_worst_path(moves: Sequence[Sequence[float]], length: int) -> list[int]:
    """So many indices from the first to the last whose largest move is as small as can be.

    Args:
        moves: from each index to each later one.
        length: how many indices, 2 at least.

    Example:
        >>> line = [0, 1, 2, 3, 10]
        >>> least_worst_path([[abs(a - b) for b in line] for a in line], 3)
        [0, 3, 4]
    """
    n = len(moves)
    # Of each index, the largest move and the sum of moves up to it, and the index before.
    best: list[tuple[float, float, int] | None] = [(0.0, 0.0, 0), *[None] * (n - 1)]
    before: list[list[int]] = []
    for _ in range(length - 1):
        best = [
            min(
                (
                    (max(reached[0], moves[i][j]), reached[1] + moves[i][j], i)
                    for i in range(j)
                    if (reached := best[i]) is not None
                ),
                default=None,
            )
            for j in range(n)
        ]
        before.append([-1 if reached is None else reached[2] for reached in best])
    path = [n - 1]
    for of_index in reversed(before):
        path.append(of_index[path[-1]])
    return path[::-1]


def with_pieces(
    config: TrackConfig, source: CheckpointSource, corpus: Corpus, settings: Settings
) -> TrackConfig:
    """The config with the checkpoints that are or were chosen, where its schedule is adaptive.

    Raises:
        UserError: a checkpoint cannot be had.
    """
    schedule = config.schedule
    if not isinstance(schedule, Adaptive):
        return config
    choice = known_choice(config, settings.cache_dir)
    if choice is None or choice.lm != source.lm_identity:
        choice = _choose(config, schedule, source, corpus, settings)
        path = _path(config, settings.cache_dir)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(vars(choice), indent=1).encode())
    return config.model_copy(update={"schedule": schedule.pieces(choice.lm_steps)})


def in_pieces(config: TrackConfig, cache_dir: Path, lm_steps: Sequence[int] = ()) -> TrackConfig:
    """A config with the checkpoints that were chosen for its adaptive schedule, if it has one.

    Where nothing was chosen so far, evenly strided ones stand for them, or the first numbers if the
    LM's steps are not known.
    """
    schedule = config.schedule
    if not isinstance(schedule, Adaptive):
        return config
    choice = known_choice(config, cache_dir)
    if choice is not None:
        chosen = choice.lm_steps
    else:
        candidates = lm_steps or range(schedule.adaptive)
        share = (len(candidates) - 1) / (schedule.adaptive - 1)
        chosen = [candidates[round(share * number)] for number in range(schedule.adaptive)]
    return config.model_copy(update={"schedule": schedule.pieces(chosen)})


def known_choice(config: TrackConfig, cache_dir: Path) -> Choice | None:
    """What was chosen for such a config on this machine, if anything was."""
    try:
        found: dict[str, Any] = json.loads(_path(config, cache_dir).read_text())
        return Choice(**found)
    except (OSError, ValueError, TypeError):
        return None


def _path(config: TrackConfig, cache_dir: Path) -> Path:
    schedule = config.schedule
    assert isinstance(schedule, Adaptive)
    key = content_hash(
        {
            "version": VERSION,
            "model": config.model,
            "hooks": [hook.key for hook in config.all_hooks],
            "corpus": config.corpus.model_dump(mode="json"),
            "residual": config.residual,
            "lm_precision": config.lm_precision,
            "adaptive": schedule.adaptive,
            "stride": schedule.stride,
        }
    )
    return cache_dir / "schedules" / f"{key[:16]}.json"


def _choose(
    config: TrackConfig,
    schedule: Adaptive,
    source: CheckpointSource,
    corpus: Corpus,
    settings: Settings,
) -> Choice:
    lm_steps = source.spec.lm_steps
    candidates = schedule.candidates(len(lm_steps))
    from saetrack.lm.movement import measure_moves  # what loads LMs takes seconds to load itself

    log.info(
        "schedule: %d of %d checkpoints are chosen, by a pass over all of them",
        schedule.adaptive,
        len(candidates),
    )
    n_rows = -(-MEASURED_TOKENS // corpus.context_size)
    tokens = torch.from_numpy(corpus.rows("train")[:n_rows].astype(np.int64))
    moves = measure_moves(
        source,
        source.resolve(candidates),
        config.all_hooks,
        tokens,
        corpus.kept(tokens, exclude_bos=config.corpus.exclude_bos),
        residual=config.residual,
        precision=config.lm_precision,
        device=choose_device(settings),
    ).tolist()
    path = least_worst_path(moves, schedule.adaptive)
    chosen = [lm_steps[candidates[index]] for index in path]
    lost = [round(moves[i][j], 4) for i, j in pairwise(path)]
    log.info("schedule: LM steps %s were chosen", ", ".join(map(str, chosen)))
    return Choice(source.lm_identity, chosen, lost)
