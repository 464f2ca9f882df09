"""How several processes that train one track use one registry."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from saetrack.chain.link_store import LinkStore, Recorder, TrainedLink
from saetrack.chain.plan import Chain, Link
from saetrack.sae.tensor_parallel import Ranks
from saetrack.sae.warm_start import Parent


@dataclass(frozen=True)
class SharedStore:
    """A `LinkStore` that several ranks use together, so that all of them do the same.

    All ranks call each method at the same point of their work. Rank 0 asks the registry, claims and
    writes; the others learn its answer and write nothing. Only parents are read by every rank.

    Attributes:
        store: the registry.
        ranks: the processes.
    """

    store: LinkStore
    ranks: Ranks

    def versions(self, chain: Chain) -> dict[str, int]:
        """See `LinkStore.versions`. The ranks' own answers could differ: the registry changes."""
        found: dict[str, int] = self.ranks.broadcast_from_rank0(lambda: self.store.versions(chain))
        return found

    def adopt(self, chain: Chain, link: Link) -> int | None:
        """See `LinkStore.adopt`; rank 0 does it for all."""
        version: int | None = self.ranks.broadcast_from_rank0(lambda: self.store.adopt(chain, link))
        return version

    def parent(self, chain: Chain, link: Link) -> Parent:
        """See `LinkStore.parent`; whole on every rank, which takes its own features from it."""
        return self.store.parent(chain, link)

    def claim(self, chain: Chain, link: Link) -> Recorder | None:
        """See `LinkStore.claim`; rank 0's claim counts for all."""
        recorder: Recorder | None = None

        def is_claimed() -> bool:
            nonlocal recorder
            recorder = self.store.claim(chain, link)
            return recorder is not None

        if not self.ranks.broadcast_from_rank0(is_claimed):
            return None
        return recorder if self.ranks.rank == 0 else _NoRecorder()


class _NoRecorder(AbstractContextManager["_NoRecorder"]):
    """The recorder of a rank that writes nothing."""

    def __exit__(self, *_: object) -> None:
        pass

    def log(self, metrics: dict[str, float], done_tokens: int) -> None:
        pass

    def register(self, trained: TrainedLink) -> int:  # noqa: ARG002
        return 0
