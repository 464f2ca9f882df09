"""A link store in a dictionary: the chain needs no MLflow to be tested."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from torch import Tensor

from saetrack.link import TrainedLink
from saetrack.plan import Chain, Link
from saetrack.sae.model import SAE


@dataclass
class MemoryStore:
    """Versions count from 1 in the order of registration."""

    links: dict[str, TrainedLink] = field(default_factory=dict)
    metrics: dict[str, list[tuple[int, dict[str, float]]]] = field(default_factory=dict)

    def versions(self, chain: Chain) -> dict[str, int]:
        wanted = {link.identity for link in chain.links}
        numbered = enumerate(self.links, start=1)
        return {identity: version for version, identity in numbered if identity in wanted}

    def weights(self, chain: Chain, version: int) -> tuple[SAE, dict[str, Tensor] | None]:
        trained = list(self.links.values())[version - 1]
        return copy.deepcopy(trained.sae), copy.deepcopy(trained.adam)

    def record(self, chain: Chain, link: Link) -> MemoryRecorder:
        self.metrics[link.identity] = []
        return MemoryRecorder(self, link)


@dataclass
class MemoryRecorder:
    store: MemoryStore
    link: Link

    def log(self, metrics: dict[str, float], done_tokens: int) -> None:
        self.store.metrics[self.link.identity].append((done_tokens, metrics))

    def register(self, trained: TrainedLink) -> int:
        self.store.links[self.link.identity] = trained
        return len(self.store.links)
