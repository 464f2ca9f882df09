"""What the catalogue must know of an architecture: norm, hooks, and how many weights it has.

`tests/lm/test_architectures.py` holds both against `transformers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from saetrack.lm.catalog.entry import Entry

# What reads the residual stream. A LayerNorm takes the mean over d_in away itself, so that centring
# changes nothing; an RMSNorm reads it.
Norm = Literal["layer", "rms"]


@dataclass(frozen=True)
class Architecture:
    """Of a `model_type`.

    Attributes:
        norm: what reads the residual stream.
        gated: the MLP has three matrices, not two.
        tied: by default unembedding and embedding share their weights.
        positions: learned ones, added to the embedding.
        blocks: name of the list of its blocks in transformers' model.
        final_norm: name of the norm between the last block and the unembedding.
        sdpa: torch's fused attention gives what transformers' plain one does.
    """

    norm: Norm
    gated: bool
    blocks: str = "model.layers"
    final_norm: str = "model.norm"
    sdpa: bool = True
    tied: bool = False
    positions: bool = False


ARCHITECTURES = {
    "apertus": Architecture("rms", gated=False),
    "bloom": Architecture(
        "layer",
        gated=False,
        tied=True,
        sdpa=False,
        blocks="transformer.h",
        final_norm="transformer.ln_f",
    ),
    "gemma2": Architecture("rms", gated=True, tied=True, sdpa=False),
    "gpt2": Architecture(
        "layer",
        gated=False,
        tied=True,
        positions=True,
        blocks="transformer.h",
        final_norm="transformer.ln_f",
    ),
    "gpt_neox": Architecture(
        "layer", gated=False, blocks="gpt_neox.layers", final_norm="gpt_neox.final_layer_norm"
    ),
    "llama": Architecture("rms", gated=True),
    "olmo": Architecture("layer", gated=True),
    "olmo2": Architecture("rms", gated=True),
    "olmo3": Architecture("rms", gated=True),
    "olmoe": Architecture("rms", gated=True),
    "opt": Architecture(
        "layer",
        gated=False,
        tied=True,
        positions=True,
        blocks="model.decoder.layers",
        final_norm="model.decoder.final_layer_norm",
    ),
    "qwen3": Architecture("rms", gated=True),
    "smollm3": Architecture("rms", gated=True, tied=True),
}


def norm_of(config: dict[str, Any]) -> Norm:
    """The norm that a config.json names, LayerNorm if it names none.

    `HookedLM` checks the norm of the loaded LM again.
    """
    architecture = ARCHITECTURES.get(str(config.get("model_type")))
    if architecture is not None:
        return architecture.norm  # some OLMo configs name an rms_norm_eps that nothing reads
    return "rms" if "rms_norm_eps" in config else "layer"


# Attention and MLP side by side read the same residual, and there is no stream between them: by
# `model_type`, with the field of config.json that says so where not every LM of it is like that.
PARALLEL = {
    **dict.fromkeys(("codegen", "cohere", "cohere2", "gptj", "phi")),
    "falcon": "parallel_attn",
    "gpt_neox": "use_parallel_residual",
}


def has_resid_mid(config: dict[str, Any]) -> bool:
    """Whether TransformerLens' `hook_resid_mid` means anything in an LM, from its config.json.

    It does not if attention and MLP stand side by side; nor where the stream itself passes through
    a norm in every block, as in OPT-350m. `HookedLM` checks the loaded LM again.
    """
    model_type = str(config.get("model_type"))
    if model_type == "opt" and not config.get("do_layer_norm_before", True):
        return False
    if config.get("apply_residual_connection_post_layernorm"):  # a field of BLOOM's and Falcon's
        return False
    field = PARALLEL.get(model_type)
    return model_type not in PARALLEL or (field is not None and not config.get(field, True))


def parameters(entry: Entry, n_blocks: int) -> int | None:
    """Weights of an LM's first blocks and its embeddings; biases and norms, below 1 %, left out.

    Returns:
        None if the entry does not say enough.
    """
    if entry.architecture is None or entry.d_model is None or entry.d_mlp is None:
        return None
    if entry.vocabulary is None:
        return None
    of = ARCHITECTURES[entry.architecture]
    d_query = entry.d_query or entry.d_model
    attention = 2 * entry.d_model * (d_query + (entry.d_key or d_query))
    mlp = (3 if of.gated else 2) * entry.d_model * entry.d_mlp * entry.n_experts
    tied = of.tied if entry.tied is None else entry.tied
    rows = entry.vocabulary * (1 if tied else 2)
    rows += (entry.max_context or 0) if of.positions else 0
    return n_blocks * (attention + mlp) + rows * entry.d_model


def memory_bytes(entry: Entry, layer: int | None, bytes_per_weight: int = 4) -> int | None:
    """Memory for an LM's weights.

    Args:
        entry: of the LM.
        layer: of the hook, for what `HookedLM` loads to read it; None for the whole LM, which
            CE-loss recovered needs.
        bytes_per_weight: 4 in float32, 2 in bfloat16.

    Returns:
        None if the entry does not say enough.
    """
    if entry.n_layers is None:
        return None
    n_blocks = entry.n_layers if layer is None else min(layer + 1, entry.n_layers)
    weights = parameters(entry, n_blocks)
    return None if weights is None else weights * bytes_per_weight


def hook_layer(entry: Entry) -> int | None:
    """The layer to begin with: the paper's, else a third of the way up, about where it hooks."""
    if entry.hook_layer is not None or entry.n_layers is None:
        return entry.hook_layer
    return entry.n_layers // 3
