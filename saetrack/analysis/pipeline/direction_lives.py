"""A second life store of an analysis, whose features are random directions: a control.

It has what explanations are made of and judged by; curves, patterns and a map it has not.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from saetrack.analysis.contexts.datapoints import random_directions
from saetrack.analysis.contexts.liveness import feature_status, live_features
from saetrack.analysis.contexts.token_purity import purity
from saetrack.analysis.life_store.columns import COLUMNS
from saetrack.analysis.life_store.files import facts_of, write_arrays, write_manifest
from saetrack.analysis.life_store.layout import (
    LINK_COLUMNS,
    OF_CHAIN,
    TOKENS_FILE,
    VOCABULARY_FILE,
    link_folder,
)
from saetrack.analysis.life_store.manifest import ArrayFacts, Arrays, Manifest
from saetrack.analysis.life_store.rare_directions import RareDirections, rare_densities
from saetrack.analysis.life_store.spool import PairSpool
from saetrack.analysis.meaning.classes import LABELS
from saetrack.analysis.meaning.patterns import NO_PATTERN
from saetrack.analysis.pipeline.life_matches import match_columns

if TYPE_CHECKING:
    import pandas as pd

    from saetrack.analysis.contexts.top_contexts import Contexts
    from saetrack.analysis.pipeline.analysis_text import AnalysisText
    from saetrack.analysis.pipeline.chain_reader import ChainReader
    from saetrack.analysis.pipeline.config import AnalyzeConfig

NOTE = "Features of this store are random directions: a control of explanations."


class DirectionLives(RareDirections):
    """Reads the first of an analysis' random directions at a checkpoint."""

    def __init__(
        self, d_in: int, final: Contexts, config: AnalyzeConfig, text: AnalysisText, folder: Path
    ) -> None:
        """Nothing is read yet.

        Args:
            d_in: of the residuals.
            final: contexts of features at the final checkpoint: some direction fires as often as
                the rarest of those that are live, one as often as the densest.
            config: of the analysis.
            text: that is read.
            folder: where a file of pairs lies, if there must be one.
        """
        live = live_features(feature_status(final, config.min_density))
        densities = rare_densities(final.feature_density[live], config.random_directions)
        vectors = random_directions(config.random_directions, d_in, config.seed)[: len(densities)]
        spool = PairSpool(len(densities), folder, excluded=text.excluded)
        super().__init__(vectors, densities, spool, text.excluded)
        self._text, self._seed = text, config.seed

    def arrays(self, contexts: Contexts, labels: pd.DataFrame) -> dict[str, np.ndarray]:
        """All that the store has of a link, once the pass is over.

        Args:
            contexts: the strongest of all directions.
            labels: of all directions.
        """
        arrays = self.records(contexts, self._text.of_store, self._seed)
        directions = len(arrays["max_act"])
        codes = [LABELS.index(label) for label in labels["label"][:directions]]
        commonest = purity(self._text.token_ids(contexts)[:directions]).commonest
        return {
            **arrays,
            "label": np.array(codes, np.uint8),
            "top_token": commonest.astype(np.int32),
        }


def write_direction_lives(
    reader: ChainReader, of_features: Manifest, lives: Path, folder: Path
) -> None:
    """Write the store beside that of the features, from which it has what both share.

    Args:
        reader: of the chain, all of whose checkpoints were read.
        of_features: manifest of the store of the features.
        lives: that store.
        folder: of the store.
    """
    folder.mkdir()
    for name in (TOKENS_FILE, VOCABULARY_FILE):
        (folder / name).symlink_to((lives / name).resolve())
    of_links: dict[str, ArrayFacts] = {}
    for number, link in enumerate(reader.links):
        of_links = linked_arrays(reader.direction_folder(link), link_folder(folder, number))
    columns = [
        {
            name: np.load(link_folder(folder, number) / f"{name}.npy", allow_pickle=False)
            for name in ("label", "feature_density")
        }
        for number in range(len(reader.links))
    ]
    of_chain = _of_chain(columns[-1]["label"])
    write_arrays(folder / OF_CHAIN, of_chain)
    facts = {name: facts_of(values) for name, values in of_chain.items()}
    live = [int((at["feature_density"] > 0).sum()) for at in columns]
    write_manifest(folder, _manifest(of_features, Arrays(links=of_links, of_chain=facts), live))


def linked_arrays(arrays: Path, to: Path) -> dict[str, ArrayFacts]:
    """Put arrays of a link into a store, as symbolic links to the cache.

    They are logged as files.

    Returns:
        Their dtypes and shapes, for the manifest.
    """
    to.mkdir(parents=True, exist_ok=True)
    found = {}
    for path in sorted(arrays.glob("*.npy")):
        (to / path.name).symlink_to(path.resolve())
        found[path.stem] = facts_of(np.load(path, mmap_mode="r", allow_pickle=False))
    return found


def _of_chain(final_label: np.ndarray) -> dict[str, np.ndarray]:
    directions = len(final_label)
    return {
        "pattern": np.zeros(directions, np.uint8),
        "final_label": final_label,
        "formation_link": np.full(directions, -1, np.int16),
        "map": np.full((directions, 2), np.nan, np.float32),
        **match_columns(directions, []),
    }


def _manifest(of_features: Manifest, arrays: Arrays, live: list[int]) -> Manifest:
    d_sae, contexts = arrays.links["context_rows"].shape
    columns = [
        column.model_copy(update={"control": None})
        for column in COLUMNS
        if column.name in LINK_COLUMNS
    ]
    changed = {
        "architecture": "random directions",
        "d_sae": d_sae,
        "contexts": contexts,
        "patterns": [NO_PATTERN],
        "columns": columns,
        "live": live,
        "matches": [],
        "notes": [*of_features.notes, NOTE],
        "of_concepts": "",
        "of_patterns": "",
        "labels_of_directions": None,
        "arrays": arrays,
    }
    return Manifest(**{**dict(of_features), **changed})
