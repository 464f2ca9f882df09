"""What is written about a chain and a link: tags that find them, parameters that explain them."""

from __future__ import annotations

import ast
from typing import Any

import pandas as pd
from mlflow.entities import Param

from saetrack.chain.plan import Chain, Link

# Tag of what looks wrong with a link but may be right.
WARNINGS = "warnings"
# And of what was left out of the text.
LEFT_OUT = "left_out"
# Tag of a chain's run: which checkpoints it lacks, since something is wrong with them.
LACKING = "checkpoints_left_out"
# Tag of a chain's run: how many links it will have, as far as its checkpoints are known.
PLANNED = "planned"


def chain_facts(chain: Chain) -> dict[str, Any]:
    """What all links of a chain share."""
    return {
        "lm": chain.lm_name,
        "layer": chain.layer,
        "hook_name": chain.hook_name,
        "direction": chain.config.direction,
        "dataset": chain.config.corpus.dataset,
        "corpus": chain.corpus.sha256,
        "seed": chain.config.seed,
        **({LEFT_OUT: "; ".join(chain.corpus.notes)} if chain.corpus.notes else {}),
    }


def link_facts(chain: Chain, link: Link) -> dict[str, Any]:
    """What a link is, what matters most first: MLflow's pages cut a long list of tags short."""
    checkpoint = link.checkpoint
    return {
        "lm_step": checkpoint.lm_step,
        "link": link.number,
        "tokens": link.tokens,
        "checkpoint_index": checkpoint.checkpoint_index,
        "repo": checkpoint.repo,
        "revision": checkpoint.revision,
        "commit": checkpoint.commit,
        "chain": chain.name,
        "identity": link.identity,
        "parent_identity": link.parent_identity,
        **chain_facts(chain),
    }


# What earlier releases wrote under other names.
RENAMED = {"residual_spread": "residual_mean_distance", "convention": "residual", "loss": "sae"}


def current_names(values: dict[str, Any]) -> dict[str, Any]:
    """Values that any release wrote, under the names of this one."""
    return {RENAMED.get(name, name): value for name, value in values.items()}


def as_tags(facts: dict[str, Any]) -> dict[str, str]:
    """Facts as MLflow's tags."""
    return {name: "" if value is None else str(value) for name, value in facts.items()}


def as_params(values: dict[str, Any]) -> list[Param]:
    """Nested values as MLflow parameters with dotted names."""
    flat = pd.json_normalize(values).iloc[0]
    return [Param(str(name), str(value)) for name, value in flat.items()]


def from_params(params: dict[str, str]) -> dict[str, Any]:
    """The nested values that `as_params` wrote."""
    values: dict[str, Any] = {}
    for name, text in params.items():
        *sections, last = name.split(".")
        inner = values
        for section in sections:
            inner = inner.setdefault(section, {})
        try:
            inner[last] = ast.literal_eval(text)
        except (ValueError, SyntaxError):  # a word
            inner[last] = text
    return values
