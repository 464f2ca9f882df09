"""How an embedded LM is made: all that determines its weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

import torch

from saetrack.data.embedded import embedded_text_version
from saetrack.lm.catalog.learning_rate import LearningRate
from saetrack.lm.catalog.models import ModelSpec
from saetrack.utils.files import content_hash

RECIPE_VERSION = 2


@dataclass(frozen=True)
class Recipe:
    """How an embedded LM is made, beyond its `ModelSpec`; it is trained to its last checkpoint."""

    n_heads: int
    vocabulary: int
    documents: int | None  # None: all of them
    batch_rows: int
    learning_rate: float
    warmup_lm_steps: int
    seed: int = 0
    architecture: Literal["gpt_neox", "gpt2"] = "gpt_neox"


# A long warm-up spreads the early change over more checkpoints. 2,048 steps read 4.2 million
# tokens: no row of text comes twice.
MINI = Recipe(4, 4096, None, batch_rows=16, learning_rate=4e-3, warmup_lm_steps=384)

RECIPES = {
    "mini": MINI,
    "mini-lm-seed1": replace(MINI, seed=1),
    "mini-lm-seed2": replace(MINI, seed=2),
    "mini-gpt2": replace(MINI, architecture="gpt2"),
    "small": Recipe(8, 8192, None, batch_rows=32, learning_rate=2e-3, warmup_lm_steps=512),
    "nano": Recipe(2, 512, 1200, batch_rows=8, learning_rate=1e-2, warmup_lm_steps=4),
}


def learning_rate(spec: ModelSpec) -> LearningRate:
    """The learning rate of an embedded LM's training."""
    recipe = RECIPES[spec.name]
    return LearningRate(recipe.learning_rate, recipe.warmup_lm_steps, spec.lm_steps[-1])


def recipe_key(spec: ModelSpec) -> str:
    """Names an embedded LM by all that determines its weights."""
    fields = ("name", "repo", "revision_pattern", "lm_steps", "n_layers", "d_model", "max_context")
    made_of = {field: getattr(spec, field) for field in fields}
    recipe = asdict(RECIPES[spec.name])
    return content_hash(
        [RECIPE_VERSION, made_of, recipe, embedded_text_version(), torch.__version__]
    )[:8]
