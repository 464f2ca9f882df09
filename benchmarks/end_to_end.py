"""One link on a mini-LM checkpoint, LM and all, against SAELens' runner."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.judged import judge
from benchmarks.once import run_once
from benchmarks.peers import SAE_LENS, UnavailableError, say
from benchmarks.presets import mini_track
from saetrack.chain.config import load_config
from saetrack.lm.hooked import LM_BATCH_ROWS, HookedLM
from saetrack.sae.files import save_tensors
from saetrack.sae.warm_start import mean_distance
from saetrack.training.activations_store import ActivationsStore
from saetrack.training.loop import train_track
from saetrack.training.prepare import PreparedTrack, prepare
from saetrack.utils.settings import Settings

PARENT, CHECKPOINT = 27, 28  # of the mini-LM: the last two
FIRST_WARMUP = 3
ROW_OF_OURS, ROW_OF_LENS = "saetrack", "SAELens runner"


def compare(rounds: int, device: str) -> pd.DataFrame:
    """Tokens per second, medians of interleaved rounds.

    Of training (LM and SAE from the first token to the last), of the whole link (the LM loaded, the
    result saved; here also held-out metrics and the registry, which the runner has no like of), and
    of a process that does this one link (imports, set-up).
    """
    with tempfile.TemporaryDirectory() as name:
        link = _Link(Path(name), device)
        measured: dict[str, list[dict[str, float]]] = {ROW_OF_OURS: [], ROW_OF_LENS: []}
        for number in range(rounds):
            try:
                measured[ROW_OF_OURS].append(link.ours(number))
                measured[ROW_OF_LENS].append(link.lens())
            except UnavailableError as error:
                say(str(error))
            say(f"end to end: round {number + 1} of {rounds} done")
        rows = [link.row(label, times) for label, times in measured.items() if times]
    table = pd.DataFrame(rows)
    for column in ("train", "whole", "process"):
        rates = table[f"{column}_tokens_per_s"]
        table[f"{column}_times_ours"] = rates.iloc[0] / rates
    return table


class _Link:
    """The link, its warm start and its judge.

    Settings are those of the deployment `mini`, but for what SAELens has no counterpart of: raw
    residuals, the plain squared error, biases kept. The penalty weighs as much against it as the
    deployment's does against the scale-free error of this checkpoint's average token.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self._folder = folder
        self._device = device
        self._settings: dict[str, Any] = {
            "tracking_uri": f"sqlite:///{folder}/mlflow.db",
            "artifact_dir": str(folder / "artifacts"),
            "device": device,
        }
        self._mini = mini_track(residual="raw", warm_start={"scale": "kept"})
        self._l1_coefficient = self._mini["sae"]["l1_coefficient"]
        say("end to end: training the parent link")
        first = self._prepare(self._track([PARENT], 0))
        held_out = self._held_out(first)
        self._l1_coefficient *= mean_distance(held_out)
        parent = self._prepare(self._track([PARENT], 0))
        train_track(parent.track, parent.source, parent.context)
        link = self._prepare(self._track([PARENT, CHECKPOINT], 0))
        chain = link.track.chains[0]
        link.registry.adopt(chain, chain.links[0])
        self._checkpoint = link.source.fetch(chain.links[1].checkpoint)
        start = link.registry.parent(chain, chain.links[1]).sae
        save_tensors(folder / "start.safetensors", dict(start.named_parameters()))
        rows = chain.corpus.rows("train")
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
        np.save(folder / "rows.npy", rows[order.numpy()].astype(np.int64))
        self._held = self._held_out(link)

    @property
    def _tokens(self) -> int:
        return int(self._mini["schedule"][-1]["tokens"])

    def ours(self, number: int) -> dict[str, float]:
        """This project's link: once its training alone, once everything with the registry."""
        # Another warm-up makes it another link, which the registry does not have yet.
        job = {
            "track": self._track([PARENT, CHECKPOINT], number),
            "settings": self._settings,
            "start": str(self._folder / "start.safetensors"),
            "final": str(self._folder / f"{ROW_OF_OURS}.safetensors"),
        }
        alone = run_once(None, "saetrack_link", {**job, "part": "training"})
        whole = run_once(None, "saetrack_link", {**job, "part": "whole"})
        return {**whole, "train_s": alone["train_s"]}

    def lens(self) -> dict[str, float]:
        """SAELens' runner."""
        mini = self._mini
        layer = mini["layers"][0]
        job = {
            "checkpoint": str(self._checkpoint),
            "module": f"gpt_neox.layers.{layer - 1}",  # what leaves it enters the hook's block
            "rows": str(self._folder / "rows.npy"),
            "rows_at_once": LM_BATCH_ROWS,
            "context_size": mini["corpus"]["context_size"],
            "tokens": self._tokens,
            "batch_tokens": mini["batch_tokens"],
            "buffer_tokens": mini["buffer_tokens"],
            "learning_rate": mini["later_links"]["learning_rate"],
            "warmup_steps": FIRST_WARMUP,
            "l1_times_d_in": self._l1_coefficient * self._held.shape[1],
            "device": self._device,
            "variant": "plain",
            "start": str(self._folder / "start.safetensors"),
            "final": str(self._folder / f"{ROW_OF_LENS}.safetensors"),
            "output": str(self._folder / "output"),
        }
        return run_once(SAE_LENS, "sae_lens_link", job)

    def row(self, label: str, times: list[dict[str, float]]) -> dict[str, Any]:
        """Rates and quality of one contestant."""
        seconds = pd.DataFrame(times).median()
        final = self._folder / f"{label}.safetensors"
        return {
            "contestant": label,
            "train_tokens_per_s": self._tokens / seconds["train_s"],
            "whole_tokens_per_s": self._tokens / seconds["whole_s"],
            "process_tokens_per_s": self._tokens / seconds["process_s"],
            **judge(final, self._held, self._l1_coefficient, None),
        }

    def _track(self, checkpoints: list[int], number: int) -> dict[str, Any]:
        budgets = {PARENT: self._mini["schedule"][0]["tokens"], CHECKPOINT: self._tokens}
        later = {**self._mini["later_links"], "warmup_steps": FIRST_WARMUP + number}
        return {
            **self._mini,
            "schedule": [{"first": i, "last": i, "tokens": budgets[i]} for i in checkpoints],
            "later_links": later,
            "sae": {
                "l1_coefficient": self._l1_coefficient,
                "reconstruction": "mse",
                "penalty": "unit_decoder",
            },
        }

    def _prepare(self, track: dict[str, Any]) -> PreparedTrack:
        return prepare(load_config(track), Settings(**self._settings))

    def _held_out(self, ready: PreparedTrack) -> torch.Tensor:
        """Residuals of the held-out split at the track's last checkpoint."""
        chain = ready.track.chains[0]
        folder = ready.source.fetch(chain.links[-1].checkpoint)
        lm = HookedLM(folder, [chain.hook], residual="raw")
        return ActivationsStore(lm, chain.corpus, exclude_bos=False, seed=0).held_out()[0]
