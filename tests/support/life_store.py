"""Synthetic life stores: plausible lives of features that never were.

python -m tests.support.life_store FOLDER [D_SAE] [LINKS]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from saetrack.analysis.life_store.columns import columns_with
from saetrack.analysis.life_store.files import facts_of, write_arrays, write_manifest, write_text
from saetrack.analysis.life_store.layout import (
    AFTER,
    BEFORE,
    BINS,
    GROUPS,
    OF_CHAIN,
    TOP,
    context_count,
    link_folder,
)
from saetrack.analysis.life_store.manifest import (
    Arrays,
    ControlBand,
    LinkFacts,
    Manifest,
    MatchedChain,
    Window,
)
from saetrack.analysis.meaning.classes import LABELS
from saetrack.analysis.meaning.patterns import PATTERNS

LINES = (
    "the of and to in a is that it was for on as with be by he at from his had not are but "
    "which or this have an they one were all we her she there would their him been has when who "
    "will no more if out so up said what its about than into them can only other time new some "
    "could these two may first then do any like my now over such our man me even most made "
    "after also did many river bank money water forest music market judge court law doctor "
    "nurse hospital school teacher student book letter word language verb noun red green blue "
    "north south east west king queen war peace army ship harbour wind rain snow summer winter "
    "bread wine garden stone iron gold silver number seven eleven hundred theorem proof "
    "function integer matrix virus protein cell gene planet star galaxy orbit engine wheel "
    "bridge tower street house door window "
)
WORDS = LINES.split()
HOSTILE = [
    "<script>alert(1)</script>",
    "<b>",
    "&amp;",
    "\n",
    "\t",
    '"',
    "\u202e",
    "{{x}}",
    "</style>",
]
NAME = "synthetic.L2.forward.s0.0123"
KINDS = ("token", "weak_concept", "concept", "contextual", "dead")
CODES = np.array([LABELS.index(kind) for kind in KINDS])


def small_store(
    folder: Path, *, d_sae: int = 300, links: int = 8, seed: int = 0, name: str = NAME
) -> Path:
    """A store of a few hundred features over a few links, in a second or two."""
    return write_store(folder, d_sae=d_sae, links=links, rows=200, seed=seed, name=name)


def write_store(
    folder: Path,
    *,
    d_sae: int,
    links: int,
    rows: int,
    context_size: int = 128,
    seed: int = 0,
    vocabulary: int | None = None,
    name: str = NAME,
) -> Path:
    """A store of any size; the same arguments give the same bytes."""
    random = np.random.default_rng(seed)
    texts = _vocabulary(vocabulary)
    shares = 1 / np.arange(2, len(texts) + 2)
    tokens = random.choice(len(texts), (rows, context_size), p=shares / shares.sum())
    tokens[:, 0] = len(texts) - 1
    folder.mkdir(parents=True, exist_ok=True)
    of_tokens = write_text(folder, tokens, texts)
    lives = Lives(d_sae, links, tokens, len(texts), random)
    for link in range(links):
        arrays = lives.at(link, np.random.default_rng([seed, link]))
        write_arrays(link_folder(folder, link), arrays)
    of_chain = lives.of_chain(random)
    write_arrays(folder / OF_CHAIN, of_chain)
    steps = [0, *np.unique(np.geomspace(1, 143_000, 4 * links).astype(int)).tolist()]
    steps = [steps[round(i)] for i in np.linspace(0, len(steps) - 1, links)]
    low, high = np.linspace(0.2, 0.95, links).round(3).tolist(), [1.0] * links
    band = ControlBand(title="LM that stands still, 5 to 95 %", low=low, high=high)
    made = Manifest(
        name=name,
        lm="synthetic",
        hook="blocks.2.hook_resid_pre",
        architecture="relu",
        d_in=64,
        d_sae=d_sae,
        direction="forward",
        seed=0,
        tokens=of_tokens,
        vocabulary=len(texts),
        links=[
            LinkFacts(
                lm_step=step,
                version=number + 1,
                collapsed=number == links // 2,
                explained_variance=round(0.6 + 0.3 * number / links, 3),
                l0=30.0 + number,
                dead=0.05,
            )
            for number, step in enumerate(steps)
        ],
        labels=list(LABELS),
        patterns=list(PATTERNS),
        context_groups=list(GROUPS),
        contexts=context_count(TOP),
        judged_contexts=25,
        window=Window(before=BEFORE, after=AFTER),
        histogram_bins=BINS,
        columns=columns_with({"cosine_to_final": band}),
        phases={"warm-up": [0, steps[links // 4]], "emergent": [steps[links // 4], steps[-1]]},
        live=lives.live,
        matches=[
            MatchedChain(
                chain="synthetic.L2.forward.s1.4567",
                name="second seed",
                role="replicate",
                lm_step=steps[-1],
                text="Matched one to one by the correlation of activations.",
            )
        ],
        notes=["Positions left out: 0.8 % ('<|endoftext|>')."],
        # Of 256 directions at each link: 64 one token, 12 concepts, 180 contextual.
        labels_of_directions=[
            [{"token": 64, "concept": 12, "contextual": 180}.get(label, 0) for label in LABELS]
        ]
        * links,
        arrays=Arrays(
            links={name: facts_of(array) for name, array in arrays.items()},
            of_chain={name: facts_of(array) for name, array in of_chain.items()},
        ),
    )
    write_manifest(folder, made)
    return folder


def _vocabulary(size: int | None) -> list[str]:
    """Words with a blank before them, hostile texts, and a BOS."""
    texts = [f" {word}" for word in WORDS] + [word.capitalize() for word in WORDS[:40]] + HOSTILE
    if size is not None:
        texts += [f" word{number}" for number in range(size - len(texts) - 1)]
    return [*texts, "<|endoftext|>"]


class Lives:
    """What becomes of each feature, and what it looks like at a link."""

    def __init__(
        self, d_sae: int, links: int, tokens: np.ndarray, vocabulary: int, random: Any
    ) -> None:
        self.d_sae, self.links, self.tokens = d_sae, links, tokens
        flat = tokens.reshape(-1)
        self.by_token = np.argsort(flat, kind="stable")
        self.offsets = np.searchsorted(flat[self.by_token], np.arange(vocabulary + 1))
        self.counts = np.diff(self.offsets)
        present = np.flatnonzero(self.counts[:-1] > 2)
        self.kinds = random.choice(5, d_sae, p=[0.4, 0.15, 0.2, 0.2, 0.05])  # of `KINDS`
        # A token feature has one token, others several.
        self.homes = random.choice(present, (d_sae, 6))
        self.homes[self.kinds == 0] = self.homes[self.kinds == 0, :1]
        self.formed = random.integers(0, links, d_sae)
        self.formed[self.kinds >= 3] = -1
        self.born_with_other = random.choice(present, d_sae)
        self.neighbours = random.integers(0, d_sae, (d_sae, 8))
        self.live: list[int] = []

    def at(self, link: int, random: Any) -> dict[str, np.ndarray]:
        """All arrays of a link."""
        d_sae, count = self.d_sae, context_count(TOP)
        formed = (self.formed >= 0) & (link >= self.formed)
        dead = (self.kinds == 4) & (link >= self.links // 2)
        label = CODES[np.where(formed, self.kinds, 3)]
        label[dead] = LABELS.index("dead")
        groups = np.repeat(np.arange(6), [TOP, 2, 2, 2, 2, 2]).astype(np.uint8)
        ids = self.homes[np.arange(d_sae)[:, None], random.integers(0, 6, (d_sae, count))]
        chosen = self.by_token[
            self.offsets[ids] + random.integers(0, 2**31, ids.shape) % self.counts[ids]
        ]
        anywhere = random.integers(0, self.tokens.size, ids.shape)
        chosen = np.where(formed[:, None] & (groups < 5), chosen, anywhere)
        rows, positions = np.divmod(chosen, self.tokens.shape[1])
        rows[dead] = -1
        strength = np.array([1, 0.8, 0.55, 0.35, 0.15, 0])[groups] * random.uniform(
            0.8, 1, ids.shape
        )
        strength[:, :TOP] = -np.sort(-strength[:, :TOP], axis=1)
        strength[:, 0] = 1
        max_act = np.where(dead, 0, random.uniform(1, 9, d_sae)).astype(np.float32)
        window = random.integers(0, 256, (d_sae, count, BEFORE + 1 + AFTER), np.uint8)
        window = np.where(window > 224, window // 4, 0).astype(np.uint8)
        window[..., BEFORE] = np.rint(strength * 255)
        window[dead] = 0
        histogram = (4_000 * np.exp(-np.arange(BINS) / random.uniform(1, 9, (d_sae, 1)))).astype(
            np.uint32
        )
        histogram[dead] = 0
        tops = np.where(formed, self.homes[:, 0], self.born_with_other)
        tops[dead] = -1
        common = np.concatenate([tops[:, None], self.homes[:, 1:5]], axis=1)
        common[dead] = -1
        progress = np.where(formed, 0.5, 0.05) + random.normal(0, 0.03, d_sae)
        nearness = np.clip((link + 1) / self.links + random.normal(0, 0.05, d_sae), -1, 1)
        not_followed = np.arange(d_sae) % 5 == 4
        curves = {
            "cosine_to_final": nearness if link < self.links - 1 else np.ones(d_sae),
            "cosine_to_first": np.clip(1 - 0.6 * nearness, -1, 1) if link else np.ones(d_sae),
            "cosine_to_previous": np.clip(nearness, 0, 1) if link else np.full(d_sae, np.nan),
            "determined_by_token": np.where(self.kinds == 0, 0.9, 0.3) * formed,
            "progress_activation": progress,
            "progress_feature": 0.8 * progress,
            "next_token_agreement": 6 * progress,
            "promoted_overlap": np.clip(nearness, 0, 1),
            "logit_kurtosis": 3 * progress,
            "effect": 0.1 * progress,
            "effect_over_random": np.exp(progress),
        }
        for name in ("determined_by_token", "progress_activation", "progress_feature"):
            curves[name] = np.where(not_followed, np.nan, curves[name])
        self.live.append(int((~dead).sum()))
        return {
            "label": label.astype(np.uint8),
            "feature_density": np.where(dead, 0, 10 ** random.uniform(-4, -1.5, d_sae)).astype(
                "f4"
            ),
            "max_act": max_act,
            "top_token": tops.astype(np.int32),
            **{
                name: np.where(dead, np.nan, curve).astype(np.float32)
                for name, curve in curves.items()
            },
            "context_rows": rows.astype(np.int32),
            "context_positions": np.where(rows < 0, 0, positions).astype(np.uint16),
            "context_groups": np.broadcast_to(groups, ids.shape),
            "context_acts": window,
            "context_act": (strength * max_act[:, None]).astype(np.float32),
            "histogram": histogram,
            "common_tokens": common.astype(np.int32),
            "common_shares": np.broadcast_to(
                np.array([0.6, 0.1, 0.05, 0.03, 0.02], "f2"), common.shape
            ),
            "neighbours": self.neighbours.astype(np.int32),
            "neighbour_cosines": -np.sort(
                -random.uniform(0.2, 0.9, (d_sae, 8)).astype("f2"), axis=1
            ),
        }

    def of_chain(self, random: Any) -> dict[str, np.ndarray]:
        """All arrays of the chain."""
        label = CODES[self.kinds].astype(np.uint8)
        groups = random.normal(0, 6, (12, 2))[self.homes[:, 0] % 12]
        plane = groups + random.normal(0, 1, (self.d_sae, 2))
        plane[self.kinds == 4] = np.nan
        patterns = {0: "maintaining", 1: "shifting", 2: "grouping", 3: "unformed", 4: "dying"}
        correlation = random.uniform(0, 1, (self.d_sae, 1)).astype(np.float32)
        partners = np.where(self.kinds[:, None] == 4, -1, random.permutation(self.d_sae)[:, None])
        return {
            "pattern": np.array([PATTERNS.index(patterns[kind]) for kind in range(5)], "u1")[
                self.kinds
            ],
            "final_label": label,
            "formation_link": self.formed.astype(np.int16),
            "map": plane.astype(np.float32),
            "match_features": partners.astype(np.int32),
            "match_cosines": 0.9 * correlation,
            "match_correlations": correlation,
            "match_chances": np.full_like(correlation, 0.2),
            "match_poor": (correlation < 0.7).astype(np.uint8),
        }


if __name__ == "__main__":
    sizes = [int(number) for number in sys.argv[2:]]
    where, d, n = Path(sys.argv[1]), *(sizes + [300, 8][len(sizes) :])
    if d > 1000:
        write_store(where, d_sae=d, links=n, rows=8_192, vocabulary=50_000)
    else:
        small_store(where, d_sae=d, links=n)
