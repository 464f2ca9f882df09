"""From a config to a chain that is ready to train: connected, resolved, tokenised, planned."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from saetrack.catalog import find_model
from saetrack.config import TrackConfig
from saetrack.corpus import prepare_corpus
from saetrack.errors import UserError
from saetrack.lm.checkpoints import CheckpointSource, open_source
from saetrack.plan import Chain, plan_chain
from saetrack.registry import Registry
from saetrack.settings import Settings


@dataclass(frozen=True)
class Prepared:
    """A chain, and all that is needed to train what is missing of it."""

    chain: Chain
    source: CheckpointSource
    registry: Registry
    device: torch.device


def prepare(config: TrackConfig, settings: Settings) -> Prepared:
    """Do everything that comes before the first link, what can fail fast first.

    The registry is connected and every checkpoint pinned before the corpus is read; an embedded LM
    is trained if this machine lacks it.

    Raises:
        UserError: something is out of reach, or asks for what does not exist.
    """
    device = choose_device(settings)
    registry = Registry(settings)
    source = open_source(find_model(config.model), settings.cache_dir)
    source.resolve(list(config.budgets))
    corpus = prepare_corpus(config.corpus, *source.tokenizer(), settings.cache_dir)
    return Prepared(plan_chain(config, source, corpus), source, registry, device)


def choose_device(settings: Settings) -> torch.device:
    """The device of the settings; `auto` is a GPU where there is one.

    Raises:
        UserError: a GPU is asked for and torch sees none.
    """
    has_gpu = torch.cuda.is_available()
    if settings.device == "cuda" and not has_gpu:
        raise UserError("SAETRACK_DEVICE='cuda': torch sees no GPU here; use auto or cpu")
    return torch.device("cuda" if has_gpu and settings.device != "cpu" else "cpu")
