"""Many tracks from one: every combination of what a sweep varies."""

from __future__ import annotations

from itertools import product
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from saetrack.chain.compatibility import require_compatible
from saetrack.chain.config import TrackConfig
from saetrack.lm.checkpoints.folder_layout import find_lm
from saetrack.utils.errors import UserError, one_line
from saetrack.utils.validation import Frozen


class SweepConfig(Frozen):
    """A track, and fields of it with the values that they take in turn.

    Models, layers, seeds and directions (schedules) are such fields. Layers of one track share the
    LM's passes; layers of several tracks share nothing but fit several machines.
    """

    track: TrackConfig
    over: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        description="field of the track to its values, for example {seed: [0, 1], layers: [[2], "
        "[3]]}; one track for each combination",
    )

    @model_validator(mode="after")
    def _every_track_is_sound(self) -> Self:
        unknown = set(self.over) - set(TrackConfig.model_fields)
        if unknown:
            known = ", ".join(TrackConfig.model_fields)
            raise ValueError(
                f"{', '.join(sorted(unknown))}: no field of a track; there are {known}"
            )
        try:
            self.tracks()
        except ValidationError as error:
            raise ValueError(one_line(error)) from None
        return self

    def tracks(self) -> list[TrackConfig]:
        """One track for each combination, in the order of the fields and of their values."""
        base = self.track.model_dump(mode="json")
        return [
            TrackConfig.model_validate({**base, **dict(zip(self.over, values, strict=True))})
            for values in product(*self.over.values())
        ]

    def titled_tracks(self) -> dict[str, TrackConfig]:
        """The tracks by what sets each apart; of a schedule its direction says enough."""
        return {self._title(track): track for track in self.tracks()}

    def _title(self, track: TrackConfig) -> str:
        values = {name: getattr(track, name) for name in self.over}
        if "schedule" in values:
            values["schedule"] = track.direction
        return " ".join(f"{name}={value}" for name, value in values.items())

    def require_lms(self) -> None:
        """Check every track against what is known of its LM by now, before any is trained.

        Raises:
            UserError: there is no such LM, or it does not suit the track.
        """
        for track in self.tracks():
            require_compatible(track, find_lm(track.model))


def load_sweep_config(values: dict[str, Any]) -> SweepConfig:
    """Validate a sweep's parameters.

    Raises:
        UserError: the first problem, in one line.
    """
    try:
        return SweepConfig.model_validate(values)
    except ValidationError as error:
        raise UserError(one_line(error)) from None
