"""The page of one analysis: figures and small tables in the paper's order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from saetrack.analysis.figures.all_figures import FigureInputs
from saetrack.analysis.figures.page import Section, write_page
from saetrack.analysis.meaning.classes import LABEL_MEANINGS, LABEL_NAMES
from saetrack.analysis.meaning.patterns import PATTERN_MEANINGS
from saetrack.utils.ports import EXPLORER_PORT

PAGE_FILE, FIGURES, TABLES = "page.html", "figures", "tables"  # of a run in MLflow
MATCHING_COLUMNS = (
    "other",
    "lm_step",
    "by",
    "pairs",
    "median_cosine",
    "share_above_0.7",
    "share_above_0.9",
    "share_mutual_best",
    "tokens",
    "median_correlation",
    "median_decoder_cosine",
)


@dataclass(frozen=True)
class _Part:
    """A section, by the names of its figures and tables; what was not found is left out."""

    heading: str
    text: str
    figures: tuple[str, ...]
    tables: dict[str, str]


_PARTS = (
    _Part(
        "What features mean",
        "Labels of features by their strongest contexts at each checkpoint, and how the first "
        "became the last (section 3).",
        ("labels", "concept_nulls", "patterns", "pattern_shares", "formed"),
        {
            "labels_of_random_directions": "What the same criteria make of random directions, at "
            "the last checkpoint",
            "paper_pattern_counts": "The paper's patterns, by its own classes",
            "context_rules": "What the authors' rule for contexts would change",
            "pattern_agreement": "Whether the same feature of another chain follows the same "
            "pattern: kappa 0 is chance, and what the page shows of a single feature is worth no "
            "more than that",
        },
    ),
    _Part(
        "How they form",
        "How alike a feature's contexts are, less random contexts (section 4). Contexts chosen at "
        "the end make curves rise by themselves: see the controls.",
        (
            "umap_joint",
            "umap_separate",
            "regions",
            "progress",
            "progress_of_features",
            "progress_paper",
            "polysemy",
        ),
        {
            "phases": "Segments of mean curves beyond what random walks have, with 95 % intervals: "
            "one segment means no phases"
        },
    ),
    _Part(
        "Drift",
        "How far decoder directions travel (section 5), beside what further training alone does.",
        (
            "own_index",
            "drift_histograms",
            "drift",
            "drift_rates",
            "drift_by_class",
            "drift_of_features",
            "trajectories",
        ),
        {"drift_verdicts": "The paper's claims against each control"},
    ),
    _Part(
        "What they promote",
        "Which tokens a feature's direction promotes, straight through the final norm (its scale "
        "fixed) and the unembedding, and whether these are the tokens that come next.",
        ("logits",),
        {
            "promoted_examples": "Of the random sample those that agree best with next tokens at "
            "the end: what they promote most"
        },
    ),
    _Part(
        "What they do",
        "How the LM's loss on held-out text changes when a feature is taken out, by attribution, "
        "beside random directions and true ablation; and when a feature is formed, converged, "
        "predictive and causal.",
        ("effects", "moments"),
        {
            "calibration": "Attribution against true ablation",
            "core_metrics": "Each link's SAE in its place in the LM, on held-out text (nats)",
            "moment_counts": "How many features have each moment",
            "moment_first": "Which comes first, of features that have all or any",
            "moment_order": "Which of two comes first, of features that have both",
        },
    ),
    _Part(
        "What probes read from them",
        "How well a linear probe of 1, 2 or 5 features tells two kinds of tokens or texts, beside "
        "one of all that the LM has at the hook, and controls.",
        ("probes",),
        {
            "probe_onsets": "Since when each task is read, for good",
            "probe_tasks": "Tasks, examples of a class, and why some are left out",
        },
    ),
    _Part(
        "Continuity and collapse",
        "How far residuals move between checkpoints (theorem 2.1), what this costs warm starts, "
        "and where residuals point the same way (appendix L).",
        ("continuity", "theorem", "collapse"),
        {
            "warm_starts": "Rank correlation of moves with the explained variance to regain; "
            "intervals resample blocks of neighbouring links",
            "theorem_path": "What training made of some tokens, beside what theorem 2.1 and the "
            "Lipschitz constant alone allow",
        },
    ),
    _Part(
        "Matched features",
        "Which features of this chain other chains have as well.",
        ("matched_features",),
        {"matching": "Matched features"},
    ),
)


def _definitions(of: str, meanings: Mapping[str, str]) -> pd.DataFrame:
    return pd.DataFrame({of: list(meanings), "what it says": list(meanings.values())})


DEFINITIONS = {
    "What each label says of a feature, at a checkpoint": _definitions(
        "label", {LABEL_NAMES[name]: meaning for name, meaning in LABEL_MEANINGS.items()}
    ),
    "What each pattern says of a feature, from the first checkpoint to the last": _definitions(
        "pattern", PATTERN_MEANINGS
    ),
}

# What the explorer's page of a chain shows instead of a figure: colours of the map (`colour`), the
# histogram (`show`), order of the table (`sort`).
_EXPLORED = {
    "labels": "",
    "patterns": "?colour=pattern",
    "formed": "?colour=formation_step&sort=formation_step",
    "progress": "?colour=progress_activation&show=progress_activation",
    "progress_of_features": "?sort=progress_activation&down=1&columns=progress_activation",
    "drift_histograms": "?show=cosine_to_first",
    "drift": "?show=cosine_to_final&colour=cosine_to_final",
    "drift_by_class": "?show=cosine_to_first&label=concept",
    "drift_of_features": "?sort=cosine_to_first&columns=cosine_to_first,cosine_to_final",
    "logits": "?show=next_token_agreement&colour=next_token_agreement",
    "effects": "?show=effect_over_random&colour=effect_over_random",
    "trajectories": "?colour=cosine_to_previous&show=cosine_to_previous",
}


def explored(chain: str) -> dict[str, str]:
    """Addresses of the explorer on this machine, by the name of the figure that each is like."""
    at = f"http://127.0.0.1:{EXPLORER_PORT}/#/{quote(chain)}"
    return {figure: at + asked for figure, asked in _EXPLORED.items()}


def write_analysis_page(inputs: FigureInputs, folder: Path) -> None:
    """Write the page of an analysis."""
    sections = []
    for number, part in enumerate(_PARTS):
        pictures = [folder / FIGURES / f"{name}.png" for name in part.figures]
        tables = {
            caption: inputs.tables[name]
            for name, caption in part.tables.items()
            if len(inputs.tables.get(name, ()))
        }
        contexts = None
        if number == 0:
            tables["How many features follow which pattern"] = _patterns(inputs)
            tables |= DEFINITIONS
            of_features = inputs.tables["patterns"][["feature", "pattern", "final_label"]]
            contexts = inputs.tables["contexts"].merge(of_features, on="feature", how="left")
        if (matching := tables.get("Matched features")) is not None:
            read = [name for name in MATCHING_COLUMNS if name in matching]
            tables["Matched features"] = matching[read]
        found = [picture for picture in pictures if picture.exists()]
        section = Section(part.heading, part.text, found, tables, contexts, explored(inputs.chain))
        if section.figures or section.tables:
            sections.append(section)
    write_page(inputs.title, inputs.caption, sections, folder / PAGE_FILE)


def _patterns(inputs: FigureInputs) -> pd.DataFrame:
    """Counts of patterns, a column per sample."""
    counts = inputs.tables["pattern_counts"]
    wide = counts.pivot_table(
        index=["pattern", "final_label"],
        columns="sample",
        values="features",
        aggfunc="sum",
        fill_value=0,
    )
    return wide.astype(int).sort_values(wide.columns[0], ascending=False).reset_index()
