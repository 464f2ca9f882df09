"""Many tracks from one: every combination of what a sweep varies."""

from __future__ import annotations

from itertools import product
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr, model_validator

from saetrack.chain.compatibility import find_suitable_lm
from saetrack.chain.config import TrackConfig, load_config
from saetrack.utils.errors import known_names
from saetrack.utils.validation import Frozen, validated


class SweepConfig(Frozen):
    """A track, and fields of it with the values that they take in turn.

    Models, layers, seeds and schedules (directions) are such fields. Layers of one track share the
    LM's passes; as tracks of their own they share nothing, but can run on several machines.
    """

    track: TrackConfig = Field(description="a track's fields, as above")
    over: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        description="field of the track to its values, for example {seed: [0, 1], layers: [[2], "
        "[3]]}; one track for each combination",
    )
    _tracks: list[TrackConfig] = PrivateAttr(default_factory=list)

    @model_validator(mode="after")
    def _every_track_is_sound(self) -> Self:
        unknown = set(self.over) - set(TrackConfig.model_fields)
        if unknown:
            name = min(unknown)
            raise ValueError(
                f"{name}: no field of a track; {known_names(name, TrackConfig.model_fields)}"
            )
        base = self.track.model_dump(mode="json")
        self._tracks = [
            load_config({**base, **dict(zip(self.over, values, strict=True))})
            for values in product(*self.over.values())
        ]
        return self

    def tracks(self) -> list[TrackConfig]:
        """One track for each combination, in the order of the fields and of their values."""
        return self._tracks

    def titled_tracks(self) -> dict[str, TrackConfig]:
        """The tracks by what sets each apart; of a schedule its direction, and where it stands."""
        return {self._title(track): track for track in self.tracks()}

    def _title(self, track: TrackConfig) -> str:
        values = {name: getattr(track, name) for name in self.over}
        if "schedule" in values:
            still = track.direction in ("conventional", "frozen") and track.pieces
            at = f"-at-{track.pieces[0].first}" if still else ""
            values["schedule"] = f"{track.direction}{at}"
        return " ".join(f"{name}={value}" for name, value in values.items())

    def require_lms(self) -> None:
        """Check every track against what is known of its LM by now, before any is trained.

        Raises:
            UserError: there is no such text or LM, or the LM does not suit the track.
        """
        for track in self.tracks():
            find_suitable_lm(track)


def load_sweep_config(values: dict[str, Any]) -> SweepConfig:
    """Validate a sweep's parameters.

    Raises:
        UserError: the first problem, in one line.
    """
    return validated(SweepConfig, values)
