"""A link store in a dictionary: the chain needs no MLflow to be tested."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from saetrack.chain.link_store import TrainedLink
from saetrack.chain.plan import Chain, Link
from saetrack.sae.warm_start import Parent


@dataclass
class MemoryStore:
    """Versions count from 1 in the order of registration."""

    links: dict[str, TrainedLink] = field(default_factory=dict)
    metrics: dict[str, list[tuple[int, dict[str, float]]]] = field(default_factory=dict)

    def versions(self, chain: Chain) -> dict[str, int]:
        wanted = {link.identity for link in chain.links}
        numbered = enumerate(self.links, start=1)
        return {identity: version for version, identity in numbered if identity in wanted}

    def adopt(self, chain: Chain, link: Link) -> int | None:
        return self.versions(chain).get(link.identity)

    def parent(self, chain: Chain, link: Link) -> Parent:
        trained = self.links[link.parent_identity or ""]
        return Parent(
            copy.deepcopy(trained.sae).cpu(),
            trained.residual_mean_distance,
            trained.evaluation.feature_density,
        )

    def claim(self, chain: Chain, link: Link) -> MemoryRecorder | None:
        if link.identity in self.links:
            return None
        self.metrics[link.identity] = []
        return MemoryRecorder(self, link)


@dataclass
class MemoryRecorder(AbstractContextManager["MemoryRecorder"]):
    store: MemoryStore
    link: Link

    def __exit__(self, *_: object) -> None:
        pass

    def log(self, metrics: dict[str, float], done_tokens: int) -> None:
        self.store.metrics[self.link.identity].append((done_tokens, metrics))

    def register(self, trained: TrainedLink) -> int:
        self.store.links[self.link.identity] = trained
        return len(self.store.links)
