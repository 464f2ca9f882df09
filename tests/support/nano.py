"""The track that tests run: four links over the nano LM."""

from __future__ import annotations

from typing import Any

# Large enough to learn something, small enough for a second or two a link.
NANO_TRACK: dict[str, Any] = {
    "model": "nano",
    "layers": [1],
    "d_sae": 64,
    "corpus": {
        "dataset": "mini",
        "context_size": 32,
        "train_tokens": 16_384,
        "held_out_tokens": 2_048,
        "analysis_tokens": 2_048,
    },
    "sae": {"l1_coefficient": 1e-3},
    "schedule": [
        {"first": 0, "last": 0, "tokens": 8_192},
        {"first": 1, "last": 5, "stride": 2, "tokens": 4_096},
    ],
    "first_link": {"learning_rate": 4e-3, "warmup_steps": 10},
    "later_links": {"learning_rate": 2e-3, "warmup_steps": 3},
    "evaluation": {"matched_l0": 8, "ce_tokens": 1_024},
    "batch_tokens": 256,
    "buffer_tokens": 2_048,
    "save_every_s": 0.1,
}
