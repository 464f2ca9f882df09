"""A control of an analysis: a track, and what its chain shows beside the one that is analysed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from saetrack.chain.config import TrackConfig
from saetrack.utils.errors import UserError
from saetrack.utils.validation import Frozen

# By direction: why such a control is no replicate of a chain through an LM's training, but what.
OTHER_ROLES = {
    "frozen": ("is over an LM that stands still", "noise"),
    "jump": ("jumps from the first checkpoint to the last", "order"),
    "permuted": ("visits checkpoints in random order", "order"),
}


class ControlChain(Frozen):
    """A chain with which the analysed chain is compared: its patterns, its features, its drift.

    `noise` shows what training an SAE does by itself (one frozen checkpoint, or an LM that stays
    random); a `replicate` should show the same (another seed, the reverse chain); `order` reads
    the same LM's checkpoints otherwise (a jump, a random order): its drift is not compared.
    """

    role: Literal["noise", "replicate", "order"]
    track: TrackConfig = Field(description="a track's fields, as above")

    @model_validator(mode="before")
    @classmethod
    def _has_fields(cls, values: Any) -> Any:
        if not isinstance(values, (Mapping, cls)):
            allowed = "must be {role: noise, replicate or order, track: FILE or fields}"
            raise ValueError(allowed)  # noqa: TRY004 - pydantic takes no other
        return values

    def require_fitting_role(self, name: str) -> None:
        """Refuse a replicate, of a chain through an LM's training, that cannot show the same.

        Raises:
            UserError: it is one.
        """
        other = OTHER_ROLES.get(self.track.direction)
        if other and self.role == "replicate":
            why, role = other
            raise UserError(
                f"controls.{name}.role='replicate': must be {role}, since its chain {why}"
            )

    def over(self, base: TrackConfig, replicate: TrackConfig) -> ControlChain | None:
        """The control of a replicate: other than it as this one is other than `base`.

        All else is the replicate's: LM, hooks, text, dictionary, budgets. Its seed differs by as
        much as this control's does.

        Args:
            base: the track of the chain whose control this is.
            replicate: likewise of the replicate.

        Returns:
            None where this control and the replicate have schedules of their own: it does not say
            what it would be there.
        """
        changed = {
            field: value
            for field, value in self.track
            if value != getattr(base, field) and field not in ("model", "layers", "hooks")
        }
        if "schedule" in changed and replicate.schedule != base.schedule:
            return None
        changed["seed"] = replicate.seed + self.track.seed - base.seed
        return ControlChain(role=self.role, track=replicate.model_copy(update=changed))
