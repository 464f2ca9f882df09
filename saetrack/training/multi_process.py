"""A link store for several ranks: rank 0 decides and records, the others do as it does."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from saetrack.chain.link_store import LinkStore, Recorder, TrainedLink
from saetrack.chain.plan import Chain, Link
from saetrack.sae.tensor_parallel import Ranks
from saetrack.sae.warm_start import Parent


@dataclass(frozen=True)
class SharedStore:
    """`store` as all ranks see it. Each reads parents itself; only rank 0 writes."""

    store: LinkStore
    ranks: Ranks

    def versions(self, chain: Chain) -> dict[str, int]:
        """As rank 0 sees them: a link may be registered between two ranks' questions."""
        found: dict[str, int] = self.ranks.broadcast_from_rank0(lambda: self.store.versions(chain))
        return found

    def adopt(self, chain: Chain, link: Link) -> int | None:
        """See `LinkStore.adopt`; once, for all ranks."""
        version: int | None = self.ranks.broadcast_from_rank0(lambda: self.store.adopt(chain, link))
        return version

    def parent(self, chain: Chain, link: Link) -> Parent:
        """Whole, in this process' own memory; its share is taken from it."""
        return self.store.parent(chain, link)

    def claim(self, chain: Chain, link: Link) -> Recorder | None:
        """Rank 0's claim is everyone's."""
        claimed: list[Recorder | None] = []

        def decide() -> bool:
            claimed.append(self.store.claim(chain, link))
            return claimed[0] is not None

        is_ours = self.ranks.broadcast_from_rank0(decide)
        if self.ranks.rank == 0:
            return claimed[0]
        return _Silent() if is_ours else None


class _Silent(AbstractContextManager["_Silent"]):
    """The recorder of a rank that records nothing."""

    def __exit__(self, *_: object) -> None:
        pass

    def log(self, metrics: dict[str, float], done_tokens: int) -> None:
        pass

    def register(self, trained: TrainedLink) -> int:  # noqa: ARG002
        return 0
