"""A callback for `transformers.Trainer` that saves the checkpoints of a track and may start it."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from saetrack.callbacks.saving import save_checkpoint
from saetrack.chain.config import TrackConfig, load_config
from saetrack.chain.presets import load_preset
from saetrack.lm.checkpoints.folder_layout import is_folder
from saetrack.utils.errors import UserError
from saetrack.utils.files import user_path

log = logging.getLogger(__name__)


class TrackCallback(TrainerCallback):
    """Saves the checkpoints that a track needs, at the LM steps that it wants, and starts it.

    They go to the folder that the track names as its `model`, without optimiser and random state:
    they are a fraction of Trainer's own, and are kept whatever `save_total_limit` says. A training
    that is resumed goes on with them; a new one needs a folder without checkpoints.

    Args:
        track: a config, or the path of its YAML file. Its schedule says when to save if it counts
            LM steps (`every`).
        lm_steps: when to save, if the schedule counts checkpoints by their index; for example
            `[0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512]`.
        start: start the track in a process of its own when training begins. It follows the folder
            for the `follow_s` seconds of its config after the newest checkpoint, which must be more
            than passes between two of them. What it prints goes to `track.log` in the folder.
        dtype: of the saved weights; None: as they are trained.

    Raises:
        UserError: the config is wrong, its model is no folder, nothing says when to save, or a
            track that is to be started does not follow (`last: null` and `follow_s`).

    Example:
        >>> from saetrack.callbacks import TrackCallback
        >>> callback = TrackCallback("my.yaml", lm_steps=range(0, 1001, 100))  # doctest: +SKIP
        >>> Trainer(..., callbacks=[callback])  # doctest: +SKIP
    """

    def __init__(
        self,
        track: TrackConfig | str | Path,
        *,
        lm_steps: Iterable[int] | None = None,
        start: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:
        if not isinstance(track, TrackConfig):
            track = load_config(load_preset("track", str(track)))
        if not is_folder(track.model):
            raise UserError(f"model={track.model!r}: must be a folder, to save checkpoints in")
        if not track.pieces:
            raise UserError(
                "schedule.adaptive: chooses among checkpoints that are saved already; name which "
                "are to be saved"
            )
        if lm_steps is None and track.pieces[0].every is None:
            raise UserError(
                "lm_steps: must say when to save, since the schedule counts checkpoints by index; "
                "or count LM steps there (every)"
            )
        if start and (track.pieces[-1].last is not None or track.follow_s <= 0):
            raise UserError(
                "start=True: the track must follow its folder: last: null in its last piece, and "
                "follow_s greater than the time between two checkpoints"
            )
        self._track = track
        self._lm_steps = None if lm_steps is None else frozenset(lm_steps)
        self._start = start
        self._dtype = dtype
        self._folder = user_path(track.model)

    def wants(self, lm_step: int) -> bool:
        """Whether the track needs the checkpoint of an LM step."""
        if self._lm_steps is not None:
            return lm_step in self._lm_steps
        return any(lm_step in piece.positions(lm_step) for piece in self._track.pieces)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **given: Any,
    ) -> None:
        """Save the LM before its first step if the track wants it; start the track."""
        if args.deepspeed or getattr(args, "fsdp", None):
            raise UserError(
                "TrackCallback: weights that are spread over processes (FSDP, DeepSpeed) cannot be "
                "saved here; let the track follow Trainer's own checkpoints"
            )
        if not state.is_world_process_zero:
            return
        if state.global_step == 0:
            if old := sorted(self._folder.glob("checkpoint-*")):
                raise UserError(
                    f"model={self._track.model!r}: holds {old[0].name} of an earlier training; "
                    "name another folder, or remove its checkpoints"
                )
            self._save(state, given)
        if self._start:
            self._follow()

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002  (Trainer gives all three)
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **given: Any,
    ) -> None:
        """Save the LM if the track wants it as it is now."""
        if state.is_world_process_zero:
            self._save(state, given)

    def _save(self, state: TrainerState, given: dict[str, Any]) -> None:
        if self.wants(state.global_step):
            tokenizer = given.get("processing_class") or given.get("tokenizer")
            step, dtype = state.global_step, self._dtype
            path = save_checkpoint(given["model"], tokenizer, self._folder, step, dtype=dtype)
            log.info("saved %s for the track", path)

    def _follow(self) -> None:
        """Start `saetrack track` on the folder; it ends by itself."""
        self._folder.mkdir(parents=True, exist_ok=True)
        values = self._track.model_dump(mode="json")
        values["model"] = str(self._folder.absolute())  # in a file, paths begin at its folder
        if is_folder(dataset := values["corpus"]["dataset"]):
            values["corpus"]["dataset"] = str(user_path(dataset).absolute())
        config = self._folder / "track.yaml"
        config.write_text(yaml.safe_dump(values, sort_keys=False))
        command = [sys.executable, "-m", "saetrack.cli", "track", str(config)]
        with (self._folder / "track.log").open("ab") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL
            )
        log.info("the track follows in process %d; see %s", process.pid, output.name)
