"""How an embedded LM is made: all that determines its weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from saetrack.data.documents import embedded_text_version
from saetrack.lm.catalog.learning_rate import LearningRate
from saetrack.lm.catalog.models import ModelSpec
from saetrack.utils.files import content_hash

RECIPE_VERSION = 1


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


RECIPES = {
    # A long warm-up spreads the early change over more checkpoints.
    "mini": Recipe(4, 4096, None, batch_rows=8, learning_rate=4e-3, warmup_lm_steps=384),
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
