"""SAELens' runner over the same checkpoint, rows, budget and warm start; logging off."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from sae_lens.config import LanguageModelSAERunnerConfig, LoggingConfig
from sae_lens.llm_sae_training_runner import LanguageModelSAETrainingRunner
from sae_lens.saes.sae import TrainingSAE
from sae_lens.saes.standard_sae import StandardTrainingSAE, StandardTrainingSAEConfig
from sae_lens.training.sae_trainer import SAETrainer
from safetensors.torch import load_file, save_file


class TimedRunner(LanguageModelSAETrainingRunner):
    """Its runner; the seconds of its trainer's `fit` are kept."""

    train_s = 0.0

    def run_trainer_with_interruption_handling(
        self, trainer: SAETrainer[Any, Any]
    ) -> TrainingSAE[Any]:
        began_s = time.perf_counter()
        sae: TrainingSAE[Any] = super().run_trainer_with_interruption_handling(trainer)
        self.train_s = time.perf_counter() - began_s
        return sae


def main(job: dict[str, Any]) -> dict[str, float]:
    """Seconds of its training, and of all that its runner does, imports left out."""
    began_s = time.perf_counter()
    start = load_file(job["start"])
    d_in, d_sae = start["W_enc"].shape
    settings = StandardTrainingSAEConfig(
        d_in=d_in, d_sae=d_sae, device=job["device"], l1_coefficient=job["l1_times_d_in"]
    )
    sae = StandardTrainingSAE(settings)
    sae.load_state_dict(start)
    runner = TimedRunner(
        _config(job, settings),
        override_dataset=Dataset.from_dict({"input_ids": np.load(job["rows"])}),
        override_sae=sae,
    )
    runner.run()
    whole_s = time.perf_counter() - began_s
    names = ("W_enc", "b_enc", "W_dec", "b_dec")
    final = {name: getattr(sae, name).detach().cpu().contiguous() for name in names}
    save_file(final, job["final"])
    return {"train_s": runner.train_s, "whole_s": whole_s}


def _config(
    job: dict[str, Any], sae: StandardTrainingSAEConfig
) -> LanguageModelSAERunnerConfig[StandardTrainingSAEConfig]:
    rows_at_once = job["rows_at_once"]
    return LanguageModelSAERunnerConfig(
        sae=sae,
        model_name=job["checkpoint"],
        model_class_name="AutoModelForCausalLM",
        hook_name=job["module"],
        dataset_path="given as an object",
        context_size=job["context_size"],
        training_tokens=job["tokens"],
        train_batch_size_tokens=job["batch_tokens"],
        store_batch_size_prompts=rows_at_once,
        n_batches_in_buffer=job["buffer_tokens"] // (rows_at_once * job["context_size"]),
        lr=job["learning_rate"],
        lr_warm_up_steps=job["warmup_steps"],
        device=job["device"],
        autocast=job["variant"] == "autocast",
        logger=LoggingConfig(log_to_wandb=False),
        checkpoint_path=None,
        output_path=job["output"],
        verbose=False,
    )


if __name__ == "__main__":
    given = json.loads(sys.stdin.read())
    Path(given["answer"]).write_text(json.dumps(main(given)))
