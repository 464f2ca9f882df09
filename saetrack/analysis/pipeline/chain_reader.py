"""Reads a chain's checkpoints: each once, for all that the analysis needs of it.

What a pass found is kept in the cache under all that determines it: an analysis that was broken off
goes on with the passes that it lacks.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from saetrack.analysis.contexts.liveness import feature_status
from saetrack.analysis.contexts.mean_acts import MeanActs
from saetrack.analysis.contexts.top_contexts import Contexts
from saetrack.analysis.formation.progress_measure import PointActivations, measure_progress
from saetrack.analysis.formation.regions import region_table
from saetrack.analysis.life_store.files import write_arrays
from saetrack.analysis.life_store.neighbours import nearest_neighbours
from saetrack.analysis.life_store.records import link_records
from saetrack.analysis.life_store.spool import PairSpool
from saetrack.analysis.meaning.directions import ReadDirections
from saetrack.analysis.meaning.labels import Meanings
from saetrack.analysis.pipeline.analysis_text import AnalysisText
from saetrack.analysis.pipeline.chain_analysis import ChainAnalysis
from saetrack.analysis.pipeline.chain_probes import (
    ChainProbes,
    choose_probes,
    load_probes,
    probe_texts_version,
    save_probes,
)
from saetrack.analysis.pipeline.chain_theorem import ChainTheorem
from saetrack.analysis.pipeline.checkpoint_result import CheckpointResult
from saetrack.analysis.pipeline.chosen_datapoints import (
    ChosenDatapoints,
    choose_datapoints,
    contexts_at_final,
    contexts_at_first,
    direction_reader,
    load_choice,
    regions_at_final,
    save_choice,
    top_contexts,
)
from saetrack.analysis.pipeline.context_labeller import ContextLabeller, ReadMeanings
from saetrack.analysis.pipeline.control_matching import ControlMatching, control_matchings
from saetrack.analysis.pipeline.direction_lives import DirectionLives
from saetrack.analysis.pipeline.effect_pass import NO_ABLATIONS, effect_pass
from saetrack.analysis.pipeline.feature_logits import logits_at
from saetrack.analysis.pipeline.feature_pass import Collector, FeaturePass
from saetrack.analysis.pipeline.loaded_checkpoints import LoadedCheckpoints
from saetrack.chain.plan import Link
from saetrack.utils.files import content_hash, whole_folder

if TYPE_CHECKING:
    from jaxtyping import Float

# Raise when what is read at a checkpoint changes, so that old results are not taken for new ones.
RESULTS_VERSION = 12

# Below a checkpoint's results: what the life store keeps of it, and that of directions.
LIFE, LIFE_OF_DIRECTIONS = "life", "life_directions"


class ChainReader:
    """The checkpoints of an analysis, ascending by LM step."""

    def __init__(self, analysis: ChainAnalysis) -> None:
        """Reads nothing yet."""
        self.config = analysis.config
        self._registered = analysis.registered
        self.links = analysis.registered.links
        self.text = AnalysisText.of(analysis.registered, self.config)
        self.loaded = LoadedCheckpoints(analysis.registered)
        self.matchings = control_matchings(analysis)
        self._cache_dir = analysis.settings.cache_dir
        self._before = {after.identity: before for before, after in pairwise(self.links)}
        self._asked = content_hash(
            [
                RESULTS_VERSION,
                self.config.choices(),
                analysis.registered.chain.corpus.sha256,
                self.links[0].identity,
                self.links[-1].identity,
                probe_texts_version(self.config),
            ]
        )
        self.theorem = ChainTheorem(analysis, self._asked)

    def lacks(self, link: Link) -> bool:
        """Whether a checkpoint, or a matching at it, is still to be read."""
        return (
            not self._result_folder(link).exists()
            or self.theorem.lacks(link)
            or any(matching.is_missing for matching in self._matchings_at(link))
        )

    def read(self, link: Link) -> None:
        """Read a checkpoint, and match its features with those of controls, unless it was done."""
        folder = self._result_folder(link)
        if not folder.exists():
            self._read(link, folder)
        if self.theorem.lacks(link):
            self.theorem.measure(link, self.loaded.load(link).lm, self.chosen.points)
        for matching in self._matchings_at(link):
            if matching.is_missing:
                feature_pass = self.loaded.load(link)
                matching.measure(feature_pass.lm, feature_pass.pulled)

    def result(self, link: Link) -> CheckpointResult:
        """What was found at a checkpoint; it must have been read.

        Raises:
            UserError: the cache cannot be read.
        """
        return CheckpointResult.load(self._result_folder(link), link)

    def life_folder(self, link: Link) -> Path:
        """Where arrays for the life store are (`saetrack.analysis.life_store.layout`)."""
        return self._result_folder(link) / LIFE

    def direction_folder(self, link: Link) -> Path:
        """The same of random directions (`saetrack.analysis.pipeline.direction_lives`)."""
        return self._result_folder(link) / LIFE_OF_DIRECTIONS

    @property
    def ends_folder(self) -> Path:
        """Where the patterns of a control are (`saetrack.analysis.pipeline.control_ends`)."""
        return self._folder("ends", self.links[-1])

    @cached_property
    def chosen(self) -> ChosenDatapoints:
        """What is followed, from the cache or from at most three passes.

        Raises:
            UserError: no feature is live at the final checkpoint; texts of probes cannot be read.
        """
        final, config, text = self.links[-1], self.config, self.text
        of_probes, at_final = self.probes.points, self.at_final
        folder = self._folder("chosen_regions", final)
        if not folder.exists():
            feature_pass, of_features = self.loaded.load(final), at_final["features"]
            save_choice(folder, regions_at_final(feature_pass, of_features, config, text))
        regions = load_choice(folder)["regions"]
        return choose_datapoints(at_final, self.at_first, regions, config, text, of_probes)

    @cached_property
    def at_final(self) -> dict[str, Contexts]:
        """Top contexts of features and of random directions at the final link, in one pass."""
        folder = self._folder("chosen", self.links[-1])
        if not folder.exists():
            found = contexts_at_final(self.loaded.load(self.links[-1]), self.config, self.text)
            save_choice(folder, found)
        return load_choice(folder)

    @cached_property
    def at_first(self) -> Contexts:
        """Top contexts of features at the first link, in one pass."""
        folder = self._folder("chosen_first", self.links[0])
        if not folder.exists():
            found = contexts_at_first(self.loaded.load(self.links[0]), self.config, self.text)
            save_choice(folder, found)
        return load_choice(folder)["features"]

    def meanings(self, link: Link) -> tuple[Meanings, pd.DataFrame]:
        """What features mean at a link, in one pass that reads nothing else; and their status."""
        feature_pass = self.loaded.load(link)
        spool = self._spool(feature_pass)
        contexts = top_contexts(feature_pass.sae.d_sae, self.config, self.text)
        directions = direction_reader(feature_pass.sae.d_in, self.config, self.text)
        feature_pass.top_contexts([contexts, spool], [directions])
        found = contexts.result()
        status = feature_status(found, self.config.min_density)
        no_texts = np.full(spool.d_sae, -1)
        determinism, _ = self.text.statistics.of_all(
            spool.blocks(), no_texts, self.text.forms.text_ids
        )
        labels = self._labeller.read(found, status, determinism, directions.result()).labels
        at, texts = link.checkpoint, self.text.text_ids(found)
        return Meanings(at.lm_step, at.checkpoint_index, labels, texts), status

    @cached_property
    def probes(self) -> ChainProbes:
        """The tasks of linear probes and their examples, from the cache or drawn.

        Raises:
            UserError: texts of probes cannot be read.
        """
        folder = self._folder("probes", self.links[-1])
        if not folder.exists():
            save_probes(folder, choose_probes(self._registered, self.config, self.text))
        return load_probes(folder)

    @cached_property
    def _labeller(self) -> ContextLabeller:
        embeddings = self.loaded.token_embeddings()
        return ContextLabeller(self.config, self.text, embeddings)

    def _read(self, link: Link, folder: Path) -> None:
        """The one pass over a checkpoint."""
        chosen, points = self.chosen, self.chosen.points
        feature_pass = self.loaded.load(link)
        spool = self._spool(feature_pass)
        d_in, pairs_folder = feature_pass.sae.d_in, self._cache_dir / "analyses"
        rare = DirectionLives(d_in, chosen.final, self.config, self.text, pairs_folder)
        mean_acts = MeanActs(feature_pass.sae.d_sae, self.text.excluded)
        activations, contexts, directions = self._pass(link, feature_pass, [spool, mean_acts], rare)
        life = self._life(spool, contexts, feature_pass)
        status = feature_status(contexts, self.config.min_density)
        progress, baseline = measure_progress(activations, chosen.followed, points.sets["baseline"])
        statistics, determinism = self._statistics(spool, contexts)
        meanings = self._labeller.read(contexts, status, determinism, directions)
        of_directions = rare.arrays(directions.contexts, meanings.labels_of_directions)
        result = CheckpointResult(
            link=link,
            contexts=contexts,
            status=status,
            **vars(meanings),
            progress=progress,
            baseline=baseline,
            statistics=statistics,
            logits=logits_at(
                feature_pass, contexts, mean_acts.result(), self.text, self.config.seed
            ),
            **self._effects(feature_pass, contexts),
            probes=self.probes.read(feature_pass, activations, points.sets, status),
            **self._of_final_only(link, activations, determinism, meanings),
            **self._kept_residuals(activations),
            parameter_displacement=self.loaded.parameter_displacement(
                self._before.get(link.identity), link
            ),
        )
        with whole_folder(folder) as draft:
            result.save(draft)
            write_arrays(draft / LIFE, life)
            write_arrays(draft / LIFE_OF_DIRECTIONS, of_directions)

    def _spool(self, feature_pass: FeaturePass) -> PairSpool:
        folder, excluded = self._cache_dir / "analyses", self.text.excluded
        return PairSpool(feature_pass.sae.d_sae, folder, excluded=excluded)

    def _pass(
        self,
        link: Link,
        feature_pass: FeaturePass,
        collectors: list[Collector],
        rare: DirectionLives,
    ) -> tuple[PointActivations, Contexts, ReadDirections]:
        """Activations at the chosen datapoints, contexts unless the choice has them, directions."""
        known = {self.links[0].identity: self.chosen.first}
        known |= {self.links[-1].identity: self.chosen.final}
        directions = direction_reader(feature_pass.sae.d_in, self.config, self.text)
        points = self.chosen.points
        if (contexts := known.get(link.identity)) is not None:
            activations = feature_pass.at(points, collectors, [directions, rare])
            return activations, contexts, directions.result()
        top = top_contexts(feature_pass.sae.d_sae, self.config, self.text)
        activations = feature_pass.at(points, [top, *collectors], [directions, rare])
        return activations, top.result(), directions.result()

    def _statistics(
        self, spool: PairSpool, contexts: Contexts
    ) -> tuple[pd.DataFrame, Float[np.ndarray, " d_sae"]]:
        """What tokens and contexts say of the followed features; eta squared of all."""
        followed = self.chosen.followed["final"].features
        texts = np.full(spool.d_sae, -1)
        texts[followed] = self.chosen.texts
        determinism, recall = self.text.statistics.of_all(
            spool.blocks(), texts, self.text.forms.text_ids
        )
        statistics = pd.DataFrame(
            {
                "feature": followed,
                "determinism": determinism[followed],
                "recall": recall[followed],
                "coherence_other": self._labeller.likeness_without_own_token(contexts, followed),
            }
        )
        return statistics, determinism

    def _effects(self, feature_pass: FeaturePass, contexts: Contexts) -> dict[str, Any]:
        """What features do, on held-out rows, unless it is left out."""
        if not self.config.effect_tokens:
            return {"effects": None, "ablations": NO_ABLATIONS, "core": {}}
        held_out = self._registered.chain.corpus.rows("held_out")
        found = effect_pass(
            feature_pass, held_out, contexts.fires, self.text.excluded, self.config
        ).read()
        return vars(found)

    def _life(
        self, spool: PairSpool, contexts: Contexts, feature_pass: FeaturePass
    ) -> dict[str, np.ndarray]:
        """What the life store keeps of each feature, but for what the results have already."""
        records = link_records(spool, contexts, self.text.of_store, self.config.seed)
        return records | nearest_neighbours(feature_pass.sae.W_dec, contexts.fires > 0)

    def _of_final_only(
        self,
        link: Link,
        activations: PointActivations,
        determinism: Float[np.ndarray, " d_sae"],
        meanings: ReadMeanings,
    ) -> dict[str, Any]:
        """Feature regions (figure 3, left), and labels by the authors' rule if it is compared."""
        if link is not self.links[-1]:
            return {"regions": pd.DataFrame(), "labels_by_authors": pd.DataFrame()}
        chosen, sets = self.chosen, self.chosen.points.sets
        regions = region_table(
            chosen.sampled,
            chosen.regions,
            activations,
            sets["regions"],
            sets["baseline"],
            self.text.text_ids(chosen.regions),
        )
        by_authors = pd.DataFrame()
        if chosen.by_authors is not None:
            status = feature_status(chosen.by_authors, self.config.min_density)
            threshold = float(meanings.nulls["min_coherence_z"].iloc[0])
            by_authors = self._labeller.labels(chosen.by_authors, status, determinism, threshold)
        return {"regions": regions, "labels_by_authors": by_authors}

    def _kept_residuals(self, activations: PointActivations) -> dict[str, Any]:
        sets = self.chosen.points.sets
        sampled = torch.from_numpy(sets["sampled"])
        return {
            "sample": activations.x[torch.from_numpy(sets["sample"][0])],
            "sampled_features_x": activations.x[sampled] * (sampled >= 0)[..., None],
        }

    def _matchings_at(self, link: Link) -> list[ControlMatching]:
        return [matching for matching in self.matchings if matching.links[0] is link]

    def _result_folder(self, link: Link) -> Path:
        before = self._before.get(link.identity)
        return self._folder("result", link, before.checkpoint.commit if before else "")

    def _folder(self, what: str, link: Link, *more: str) -> Path:
        """Named by all that determines what is kept there."""
        name = content_hash([self._asked, what, link.identity, *more])[:32]
        return self._cache_dir / "analyses" / name
