"""Whether a link has reached its plateau (saetrack.chain.budget.Plateau)."""

from __future__ import annotations

from saetrack.chain.budget import Plateau


class PlateauWatch:
    """What a link's checks have found so far, and what follows from it.

    Attributes:
        found: of each check in order, training tokens and loss.
    """

    def __init__(self, plateau: Plateau) -> None:
        self._plateau = plateau
        self.found: list[tuple[int, float]] = []

    def is_due(self, done_tokens: int) -> bool:
        """Whether the loss is to be measured now; a large batch may pass several checks at once."""
        last = self.found[-1][0] if self.found else 0
        return any(last < at <= done_tokens for at in self._plateau.checks)

    def is_reached(self) -> bool:
        """Whether the last interval lowered the loss by less than the rule asks for."""
        if len(self.found) < 2:
            return False
        (_, before), (_, after) = self.found[-2:]
        return before - after < self._plateau.within * before

    def early_line(self) -> str | None:
        """What to tell of a link that ended at the first check that can end one; else None."""
        if len(self.found) != 2:
            return None
        (_, before), (tokens, after) = self.found
        fell = (before - after) / before
        return (
            f"ended after {tokens:,} of {self._plateau.max:,} tokens, as early as it can: its loss "
            f"fell by {max(0.0, fell):.1%} since the check before "
            f"(within={self._plateau.within:g}; a smaller one trains longer)"
        )
