"""Puts a chain's life store together from what was found at its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from saetrack.analysis.contexts.liveness import live_features
from saetrack.analysis.figures.nulls import nulls_line
from saetrack.analysis.figures.pattern_shares import kappa_line
from saetrack.analysis.life_store.columns import columns_with
from saetrack.analysis.life_store.decoder_map import decoder_map
from saetrack.analysis.life_store.files import facts_of, write_arrays, write_manifest, write_text
from saetrack.analysis.life_store.layout import (
    AFTER,
    BEFORE,
    BINS,
    GROUPS,
    OF_CHAIN,
    link_folder,
)
from saetrack.analysis.life_store.manifest import (
    ArrayFacts,
    Arrays,
    ControlBand,
    LinkFacts,
    Manifest,
    Window,
)
from saetrack.analysis.meaning.classes import LABELS
from saetrack.analysis.meaning.patterns import PATTERNS
from saetrack.analysis.pipeline import effect_tables, logit_tables
from saetrack.analysis.pipeline.direction_lives import linked_arrays, write_direction_lives
from saetrack.analysis.pipeline.effect_tables import effect_columns
from saetrack.analysis.pipeline.life_curves import band_of, control_bands, link_columns
from saetrack.analysis.pipeline.life_matches import match_columns, matched_chains
from saetrack.analysis.pipeline.logit_tables import ChainLogits, logit_columns

if TYPE_CHECKING:
    from saetrack.analysis.controls.measured import MeasuredLink
    from saetrack.analysis.drift.controls import ControlDrift
    from saetrack.analysis.drift.measure import Drift
    from saetrack.analysis.pipeline.chain_reader import ChainReader
    from saetrack.analysis.pipeline.checkpoint_result import CheckpointResult
    from saetrack.analysis.pipeline.registered_chain import RegisteredChain


@dataclass(frozen=True)
class Found:
    """What an analysis found, as far as lives are made of it.

    Attributes:
        registered: the chain.
        reader: of its checkpoints.
        results: of each of them.
        drift: of the chain.
        controls: quantiles of the drift of controls.
        logits: what features promote at each of them.
        effects: what they do.
        tables: `drift`, `patterns`, `collapse`, `concept_nulls`, `pattern_agreement` among them.
        phases: first and last LM step of each.
    """

    registered: RegisteredChain
    reader: ChainReader
    results: Sequence[CheckpointResult]
    drift: Drift
    controls: Sequence[ControlDrift]
    logits: ChainLogits
    effects: list[MeasuredLink]
    tables: Mapping[str, pd.DataFrame]
    phases: Mapping[str, tuple[float, float]]


def write_lives(found: Found, folder: Path, of_directions: Path) -> None:
    """Write the life store of features, and that of random directions.

    Arrays of links are symbolic links to the cache, and logged as files.
    """
    folder.mkdir()
    text = found.reader.text
    tokens = write_text(folder, text.token_rows, text.texts)
    of_links: dict[str, ArrayFacts] = {}
    for number, result in enumerate(found.results):
        to = link_folder(folder, number)
        columns = link_columns(number, result, text, found.drift)
        columns |= logit_columns(found.logits, number, len(result.labels))
        columns |= effect_columns(found.effects, number, len(result.labels))
        write_arrays(to, columns)
        of_links = {name: facts_of(values) for name, values in columns.items()}
        of_links |= linked_arrays(found.reader.life_folder(result.link), to)
    of_chain = _of_chain(found)
    write_arrays(folder / OF_CHAIN, of_chain)
    arrays = Arrays(
        links=of_links, of_chain={name: facts_of(values) for name, values in of_chain.items()}
    )
    manifest = _manifest(found, tokens, arrays, text.vocabulary)
    write_manifest(folder, manifest)
    write_direction_lives(found.reader, manifest, folder, of_directions)


def _of_chain(found: Found) -> dict[str, np.ndarray]:
    patterns = found.tables["patterns"].sort_values("feature")
    number_of = {result.checkpoint_index: at for at, result in enumerate(found.results)}
    formed = patterns["formed_checkpoint_index"].map(number_of).fillna(-1)
    final = found.results[-1]
    decoder = found.registered.decoder(final.link).W_dec.cpu().numpy()
    return {
        "pattern": _codes(patterns["pattern"], PATTERNS),
        "final_label": _codes(patterns["final_label"], LABELS),
        "formation_link": formed.to_numpy(np.int16),
        "map": decoder_map(decoder, final.contexts.fires > 0, found.reader.config.seed),
        **match_columns(len(decoder), found.reader.matchings),
    }


def _manifest(found: Found, tokens: ArrayFacts, arrays: Arrays, vocabulary: int) -> Manifest:
    registered = found.registered
    chain, config = registered.chain, registered.chain.config
    d_sae, contexts = arrays.links["context_rows"].shape
    return Manifest(
        name=chain.name,
        lm=chain.lm_name,
        hook=str(chain.hook),
        architecture=config.sae.architecture,
        d_in=found.results[-1].sample.shape[1],
        d_sae=d_sae,
        direction=config.direction,
        seed=config.seed,
        tokens=tokens,
        vocabulary=vocabulary,
        links=_links(found),
        labels=list(LABELS),
        patterns=list(PATTERNS),
        context_groups=list(GROUPS),
        contexts=contexts,
        judged_contexts=found.reader.config.contexts,
        window=Window(before=BEFORE, after=AFTER),
        histogram_bins=BINS,
        columns=columns_with(_bands(found)),
        phases={name: [float(step) for step in span] for name, span in found.phases.items()},
        live=[len(live_features(result.status)) for result in found.results],
        matches=matched_chains(found.reader.matchings, found.reader.config),
        notes=_notes(found),
        of_concepts=nulls_line(found.tables["concept_nulls"]),
        of_patterns=kappa_line(found.tables["pattern_agreement"]).strip(),
        labels_of_directions=[
            result.labels_of_directions["label"]
            .value_counts()
            .reindex(LABELS, fill_value=0)
            .tolist()
            for result in found.results
        ],
        arrays=arrays,
    )


def _bands(found: Found) -> dict[str, ControlBand]:
    """Of every curve that has a control."""
    bands = control_bands(found.results, found.tables["drift"], found.controls)
    for names, links in (
        (logit_tables.COLUMN_OF, found.logits.measured),
        (effect_tables.COLUMN_OF, found.effects),
    ):
        for name, quantity in names.items() if links else ():
            measured = [link.quantities[quantity] for link in links]
            low, high = np.array([at.band() for at in measured]).T
            bands[name] = band_of(measured[0].name, low, high)
    return bands


def _links(found: Found) -> list[LinkFacts]:
    registered = found.registered
    table = registered.ready.registry.table(registered.chain).set_index("link")
    collapsed = found.tables["collapse"]["collapsed"].tolist()
    return [
        LinkFacts(
            lm_step=result.lm_step,
            version=registered.versions[result.link.identity],
            collapsed=bool(collapsed[number]),
            **{
                name: _or_null(table.loc[result.link.number].get(name))
                for name in ("explained_variance", "l0", "dead")
            },
        )
        for number, result in enumerate(found.results)
    ]


def _notes(found: Found) -> list[str]:
    """Lines that the page shows: what of the text is left out, what stands still."""
    notes = [found.reader.text.left_out_line().strip()]
    if (standing := found.registered.standing) is not None:
        notes.append(f"The LM stands still at step {standing.lm_step:,}: steps are links.")
    return [note for note in notes if note]


def _codes(names: pd.Series[Any], known: Sequence[str]) -> np.ndarray:
    return np.array([known.index(name) for name in names], np.uint8)


def _or_null(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
