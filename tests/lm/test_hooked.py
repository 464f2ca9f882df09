"""The loader gives what transformers gives, in both conventions, from the hub's cache layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    PreTrainedModel,
)

from saetrack.lm.catalog.models import ModelSpec
from saetrack.lm.checkpoints import store
from saetrack.lm.checkpoints.hub_source import HubSource
from saetrack.lm.hook import Hook
from saetrack.lm.hooked import HookedLM
from saetrack.utils.errors import UserError
from tests.support.tiny_lm import saved_files

N_LAYERS, D_MODEL, VOCABULARY = 3, 48, 97
TOKENS = torch.randint(0, VOCABULARY, (4, 16), generator=torch.Generator().manual_seed(0))


def pre(layer: int) -> Hook:
    return Hook("resid_pre", layer)


def tiny_model(architecture: str, seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    if architecture == "gpt_neox":
        model: PreTrainedModel = GPTNeoXForCausalLM(
            GPTNeoXConfig(
                vocab_size=VOCABULARY,
                hidden_size=D_MODEL,
                num_hidden_layers=N_LAYERS,
                num_attention_heads=4,
                intermediate_size=96,
                max_position_embeddings=32,
            )
        )
    else:
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=VOCABULARY,
                n_embd=D_MODEL,
                n_layer=N_LAYERS,
                n_head=4,
                n_positions=32,
                scale_attn_by_inverse_layer_idx=True,  # as Stanford's models have it
            )
        )
    # Fresh biases and norms are zeros and ones, and would hide what is left out.
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(
    scope="module", params=[("gpt_neox", "model.safetensors"), ("gpt2", "pytorch_model.bin")]
)
def published(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[HubSource, dict[int, PreTrainedModel]]:
    """Two checkpoints of one architecture in a hub cache, and the models they hold."""
    architecture, weights = request.param
    cache = tmp_path_factory.mktemp(architecture)
    spec = ModelSpec("tiny", "someone/tiny", "step{lm_step}", (0, 7), N_LAYERS, D_MODEL, 32)
    models = {index: tiny_model(architecture, seed=index) for index in (0, 1)}
    for index, model in models.items():
        store.publish(cache, "someone/tiny", spec.revision(index), saved_files(model, weights))
    store.publish(cache, "someone/tiny", "main", {"tokenizer.json": b"{}"})
    return HubSource(spec, "someone/tiny", cache, 10**9), models


def hidden_state(model: PreTrainedModel, layer: int) -> Tensor:
    with torch.no_grad():
        hidden: Tensor = model(TOKENS, output_hidden_states=True).hidden_states[layer]
    return hidden


@pytest.mark.parametrize("layer", range(N_LAYERS))
@pytest.mark.parametrize("checkpoint_index", [0, 1])
def test_residuals_equal_those_of_transformers(
    published: tuple[HubSource, dict[int, PreTrainedModel]],
    layer: int,
    checkpoint_index: int,
) -> None:
    source, models = published
    (checkpoint,) = source.resolve([checkpoint_index])
    expected = hidden_state(models[checkpoint_index], layer)
    raw = HookedLM(source.fetch(checkpoint), [pre(layer)], residual="raw").activations(TOKENS)[0]
    centred = HookedLM(source.fetch(checkpoint), [pre(layer)]).activations(TOKENS)[0]
    torch.testing.assert_close(raw, expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(
        centred, expected - expected.mean(dim=-1, keepdim=True), atol=2e-6, rtol=0
    )


@pytest.mark.parametrize("whole", [False, True])
def test_several_layers_of_one_pass_are_bit_equal_to_each_alone(
    published: tuple[HubSource, dict[int, PreTrainedModel]], whole: bool
) -> None:
    source, models = published
    folder = source.fetch(source.resolve([1])[0])
    multi_process = HookedLM(folder, [pre(n) for n in range(3)], whole=whole).activations(TOKENS)
    for layer, resid in enumerate(multi_process):
        assert torch.equal(resid, HookedLM(folder, [pre(layer)]).activations(TOKENS)[0])
        expected = hidden_state(models[1], layer)
        torch.testing.assert_close(
            resid, expected - expected.mean(dim=-1, keepdim=True), atol=2e-6, rtol=0
        )


def test_centred_is_what_the_papers_processing_gives(
    published: tuple[HubSource, dict[int, PreTrainedModel]],
) -> None:
    source, _ = published
    (checkpoint,) = source.resolve([1])
    folder = source.fetch(checkpoint)
    whole = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    bridge = TransformerBridge.boot_transformers(
        str(folder), hf_model=whole, tokenizer=None, device="cpu", dtype=torch.float32
    )
    bridge.enable_compatibility_mode()  # folds layer norms, centres writing weights
    with torch.no_grad():
        processed = bridge(TOKENS, stop_at_layer=2)
    ours = HookedLM(folder, [pre(2)], residual="centred").activations(TOKENS)[0]
    torch.testing.assert_close(ours, processed, atol=5e-6, rtol=0)


def test_exactly_the_blocks_below_the_hook_run(
    published: tuple[HubSource, dict[int, PreTrainedModel]],
) -> None:
    source, _ = published
    (checkpoint,) = source.resolve([0])
    lm = HookedLM(source.fetch(checkpoint), [pre(2)])
    ran: list[int] = []
    for index, block in enumerate(lm._lm.blocks):
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
    lm.activations(TOKENS)
    assert ran == [0, 1]


def test_bfloat16_is_close_and_given_as_float32(
    published: tuple[HubSource, dict[int, PreTrainedModel]],
) -> None:
    source, models = published
    (checkpoint,) = source.resolve([0])
    lm = HookedLM(source.fetch(checkpoint), [pre(2)], residual="raw", precision="bfloat16")
    (resid,) = lm.activations(TOKENS)
    expected = hidden_state(models[0], 2)
    assert resid.dtype == torch.float32
    difference = (resid - expected).norm() / expected.norm()
    assert 1e-5 < difference < 0.05


def test_missing_weights_are_refused_not_invented(tmp_path: Path) -> None:
    files = saved_files(tiny_model("gpt_neox", 0), "model.safetensors")
    tensors = load(files["model.safetensors"])
    lost = "gpt_neox.layers.1.mlp.dense_h_to_4h.weight"
    del tensors[lost]
    files["model.safetensors"] = save(tensors, metadata={"format": "pt"})
    store.publish(tmp_path, "someone/broken", "step0", files)
    store.publish(tmp_path, "someone/broken", "main", {"tokenizer.json": b"{}"})
    spec = ModelSpec("broken", "someone/broken", "step{lm_step}", (0,), N_LAYERS, D_MODEL, 32)
    source = HubSource(spec, "someone/broken", tmp_path, 10**9)
    folder = source.fetch(source.resolve([0])[0])
    with pytest.raises(UserError, match="lacks usable weights for 1 tensors"):
        HookedLM(folder, [pre(2)])


def test_an_unreachable_hub_is_one_line(tmp_path: Path) -> None:
    spec = ModelSpec("absent", "someone/absent", "step{lm_step}", (0, 7), N_LAYERS, D_MODEL, 32)
    with pytest.raises(
        UserError, match="someone/absent at step0 and 2 more is not on this machine"
    ):
        HubSource(spec, "someone/absent", tmp_path, 10**9).resolve([0, 1])
