"""The sizes of an LM, by the config.json of one of its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from saetrack.lm.catalog.architectures import Norm, has_resid_mid, norm_of
from saetrack.lm.checkpoints.checkpoint_files import read_json
from saetrack.utils.errors import UserError

# What the architectures call these numbers in config.json.
CONFIG_KEYS = {
    "n_layers": ("num_hidden_layers", "n_layer"),
    "d_model": ("hidden_size", "n_embd", "d_model"),
    "max_context": ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"),
    "vocabulary": ("vocab_size",),
}


@dataclass(frozen=True)
class Shape:
    """The sizes of an LM; `max_context` in tokens, 0 if its config names none.

    `vocabulary` is the number of the embedding's rows, 0 if it is not known.
    """

    n_layers: int
    d_model: int
    max_context: int
    norm: Norm = "layer"
    has_resid_mid: bool = True
    vocabulary: int = 0


UNKNOWN_SHAPE = Shape(0, 0, 0)


def shape_of(checkpoint: Path) -> Shape:
    """The LM's shape, from a checkpoint's config.json.

    Raises:
        UserError: the config does not say it.
        NotWholeError: the config is missing or half-written.
    """
    config = read_json(checkpoint / "config.json")
    numbers = {
        field: next((value for key in keys if isinstance(value := config.get(key), int)), 0)
        for field, keys in CONFIG_KEYS.items()
    }
    if not (numbers["n_layers"] and numbers["d_model"]):
        numbers = _numbers_by_transformers(checkpoint) or numbers
    for field in ("n_layers", "d_model"):  # BLOOM names no context: its attention has no limit
        if not numbers[field]:
            raise UserError(
                f"model='{checkpoint.parent}': {checkpoint.name}/config.json has none of "
                f"{', '.join(CONFIG_KEYS[field])}"
            )
    return Shape(**numbers, norm=norm_of(config), has_resid_mid=has_resid_mid(config))


def _numbers_by_transformers(checkpoint: Path) -> dict[str, int] | None:
    """The same numbers by the names that transformers knows them by: GPT-Neo, MPT, XGLM."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False).get_text_config()
    except (ValueError, OSError, ImportError, KeyError):
        return None
    found = {}
    for field, keys in CONFIG_KEYS.items():
        values = [getattr(config, key, None) for key in keys]
        found[field] = next((value for value in values if isinstance(value, int)), 0)
    return found
