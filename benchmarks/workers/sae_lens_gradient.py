"""SAELens' own training classes on given weights and residuals: activations, loss, gradient."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from sae_lens import __version__
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.jumprelu_sae import JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig
from sae_lens.saes.matryoshka_batchtopk_sae import (
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
)
from sae_lens.saes.sae import TrainStepInput
from sae_lens.saes.standard_sae import StandardTrainingSAE, StandardTrainingSAEConfig
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
from safetensors.torch import load_file, save_file

KINDS: dict[str, tuple[Any, Any]] = {
    "standard": (StandardTrainingSAE, StandardTrainingSAEConfig),
    "topk": (TopKTrainingSAE, TopKTrainingSAEConfig),
    "batchtopk": (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig),
    "matryoshka": (MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig),
    "jumprelu": (JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig),
}


def main(job: dict[str, Any]) -> dict[str, Any]:
    """One case after another; the tensors go into a file each."""
    for case in job["cases"]:
        given = load_file(case["given"])
        x, is_dead = given.pop("x"), given.pop("is_dead").bool()
        kind, config = KINDS[case["kind"]]
        d_in, d_sae = given["W_enc"].shape
        sae = kind(config(d_in=d_in, d_sae=d_sae, device="cpu", **case["settings"]))
        with torch.no_grad():
            for name, tensor in given.items():
                getattr(sae, name).copy_(tensor)
        output = sae.training_forward_pass(
            TrainStepInput(
                sae_in=x,
                coefficients=case["coefficients"],
                dead_neuron_mask=is_dead,
                n_training_steps=0,
                is_logging_step=False,
            )
        )
        output.loss.backward()
        found = {"feature_acts": output.feature_acts, "loss": output.loss}
        found |= {f"{name}.grad": p.grad for name, p in sae.named_parameters()}
        found = {name: tensor.detach().contiguous() for name, tensor in found.items()}
        save_file(found, Path(case["found"]))
    return {"version": __version__}


if __name__ == "__main__":
    given = json.loads(sys.stdin.read())
    Path(given["answer"]).write_text(json.dumps(main(given)))
