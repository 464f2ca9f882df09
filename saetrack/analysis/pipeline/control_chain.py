"""A control of an analysis: a track, and what its chain shows beside the one that is analysed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from saetrack.chain.config import TrackConfig
from saetrack.utils.errors import UserError
from saetrack.utils.validation import Frozen

# By direction: what such a chain is, and the role that it has beside one through an LM's training.
ROLES = {
    "forward": ("follows an LM that moves", "replicate"),
    "reverse": ("follows an LM that moves", "replicate"),
    "frozen": ("is over an LM that stands still", "noise"),
    "jump": ("jumps from the first checkpoint to the last", "order"),
    "permuted": ("visits checkpoints in random order", "order"),
}
STANDS_STILL = (
    "a schedule that stays at one checkpoint: [{first: 9, last: 9, tokens: 60000, repeat: 10}]"
)


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

    def require_fitting(self, name: str, analysed: Sequence[TrackConfig]) -> None:
        """Refuse a control that is none of the chains that are analysed, or not of its role.

        Raises:
            UserError: it is over another LM or other hooks, or its chain does not have this role.
        """
        track, field = self.track, f"controls.{name}.track"
        of_lm = [one for one in analysed if one.model == track.model]
        if not of_lm:
            lms = " or ".join(sorted({repr(one.model) for one in analysed}))
            raise UserError(
                f"{field}.model={track.model!r}: must be {lms}, the LM that is analysed; a chain "
                "over another LM is named under replicates, and --set 'controls={}' leaves all out"
            )
        beside = [one for one in of_lm if {*one.all_hooks} & {*track.all_hooks}]
        if not beside:
            hooks = " or ".join(sorted({one.hooks_text for one in of_lm}))
            raise UserError(
                f"{field}: {track.hooks_text}: must have a hook of the chain that is analysed, "
                f"{hooks}; a chain at another hook is named under replicates or beside, and "
                "--set 'controls={}' leaves all out"
            )
        self._require_role(name, beside[0])

    def _require_role(self, name: str, analysed: TrackConfig) -> None:
        field, direction = f"controls.{name}", self.track.direction
        if direction == "conventional":
            raise UserError(
                f"{field}.track.schedule: makes one link; must make a chain of several, as the "
                "chain has that it stands beside"
            )
        why, role = ROLES[direction]
        if self.role == "order" and self.track.schedule == analysed.schedule:
            why, role = "visits checkpoints in the order of the analysed one", "replicate"
        elif self.role == "replicate" and ROLES.get(analysed.direction, ROLES["forward"])[1] != (
            "replicate"
        ):
            return  # such as two chains over a still LM
        elif self.role == "order" and role == "replicate":
            return  # the chain's ends without all that lies between
        if self.role != role:
            allowed = f"; noise takes {STANDS_STILL}" if self.role == "noise" else ""
            raise UserError(
                f"{field}.role={self.role!r}: must be {role}, since its chain {why}{allowed}"
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
