"""Weights as people save them: read right, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    PreTrainedModel,
)
from transformers.cache_utils import DynamicCache

from saetrack.lm.hook import Hook
from saetrack.lm.hooked import HookedLM
from saetrack.utils.errors import UserError
from tests.support.tiny_lm import save_again, tiny_neox

TOKENS = torch.randint(0, 97, (2, 16), generator=torch.Generator().manual_seed(0))
FIRST = Hook("resid_pre", 1)
MLP = "gpt_neox.layers.0.mlp.dense_h_to_4h.weight"
EMBEDDING, HEAD = "gpt_neox.embed_in.weight", "embed_out.weight"
GPT2 = GPT2Config(
    vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=32, bos_token_id=1, eos_token_id=2
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A sound one."""
    tiny_neox().save_pretrained(tmp_path / "checkpoint-7")
    return tmp_path / "checkpoint-7"


def hidden_state(model: PreTrainedModel, layer: int) -> Tensor:
    with torch.no_grad():
        hidden: Tensor = model(TOKENS, output_hidden_states=True).hidden_states[layer]
    return hidden


def resid(checkpoint: Path, layer: int = 1, **changes: Any) -> Tensor:
    return HookedLM(checkpoint, [Hook("resid_pre", layer)], residual="raw", **changes).activations(
        TOKENS
    )[0]


@pytest.mark.parametrize(
    ("name", "value", "dtype"),
    [
        (MLP, float("nan"), torch.float32),
        (EMBEDDING, float("-inf"), torch.bfloat16),  # of one rare token
        (MLP, 1e9, torch.float16),  # overflows
        (HEAD, float("nan"), torch.float32),
    ],
)
def test_a_value_that_is_not_finite_is_refused_by_name(
    checkpoint: Path, name: str, value: float, dtype: torch.dtype
) -> None:
    def spoil(saved: dict[str, Tensor]) -> dict[str, Tensor]:
        saved = {key: weight.to(dtype) for key, weight in saved.items()}
        saved[name][-1, -1] = value
        return saved

    save_again(checkpoint, spoil)
    with pytest.raises(UserError, match="not finite") as caught:
        HookedLM(checkpoint, [FIRST], whole=True, label="me/lm at step7 (LM step 7)")
    name = name.replace("embed_out", "lm_head")  # as transformers calls it now
    numel = tiny_neox().get_parameter(name).numel()
    assert f"me/lm at step7 (LM step 7): 1 of {numel:,} values of {name} are" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_whose_sum_overflows_are_finite_all_the_same(checkpoint: Path) -> None:
    save_again(checkpoint, lambda saved: saved | {HEAD: torch.full_like(saved[HEAD], 3e38)})
    HookedLM(checkpoint, [FIRST], whole=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_it_was_saved(checkpoint: Path, dtype: torch.dtype) -> None:
    save_again(checkpoint, lambda saved: {key: saved[key].to(dtype) for key in saved})
    expected = hidden_state(tiny_neox().to(dtype).float(), 1)
    torch.testing.assert_close(resid(checkpoint), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "_orig_mod.module.", "model."])
@pytest.mark.parametrize("model", [tiny_neox, lambda: GPT2LMHeadModel(GPT2)], ids=["neox", "gpt2"])
def test_a_wrappers_prefix_is_taken_away(tmp_path: Path, prefix: str, model: Any) -> None:
    torch.manual_seed(0)
    lm = model().eval()
    lm.save_pretrained(tmp_path / "checkpoint-7")
    save_again(tmp_path / "checkpoint-7", lambda saved: {prefix + key: saved[key] for key in saved})
    expected = hidden_state(lm, 1)
    for whole in (False, True):
        found = resid(tmp_path / "checkpoint-7", whole=whole)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_files_with_two_models_are_refused(checkpoint: Path) -> None:
    save_again(
        checkpoint,
        lambda saved: {f"{of}.{key}": saved[key].clone() for of in ("ema", "lm") for key in saved},
    )
    with pytest.raises(UserError, match="lacks usable weights"):
        HookedLM(checkpoint, [FIRST])


def test_a_copy_is_never_taken_for_a_weight_that_is_missing(checkpoint: Path) -> None:
    save_again(
        checkpoint, lambda saved: {f"ema.{key}" if key == MLP else key: saved[key] for key in saved}
    )
    with pytest.raises(UserError, match=f"for 1 tensors, first {MLP}"):
        HookedLM(checkpoint, [FIRST])


def test_a_weight_of_another_shape_is_refused_by_name(checkpoint: Path) -> None:
    save_again(checkpoint, lambda saved: saved | {MLP: torch.zeros(64, 31)})
    with pytest.raises(UserError, match=f"for 1 tensors, first {MLP}"):
        HookedLM(checkpoint, [FIRST])


@pytest.mark.parametrize("is_zip", [False, True], ids=["safetensors", "a zip"])
def test_quantised_weights_are_never_taken_for_weights(checkpoint: Path, is_zip: bool) -> None:
    def save(dtype: torch.dtype, **buffers: Tensor) -> None:
        tiny_neox().save_pretrained(checkpoint)
        save_again(checkpoint, lambda saved: saved | buffers | {MLP: saved[MLP].to(dtype)})
        if is_zip:
            weights = load_file(checkpoint / "model.safetensors")
            (checkpoint / "model.safetensors").unlink()
            torch.save(weights, checkpoint / "pytorch_model.bin")

    expected = resid(checkpoint)
    mask = {"gpt_neox.layers.0.attention.bias": torch.ones(1, 1, 32, 32, dtype=torch.uint8)}
    save(torch.float32, **mask)
    assert torch.equal(resid(checkpoint), expected), "a buffer is no weight"
    for dtype in (torch.int8, torch.float8_e4m3fn):
        save(dtype)
        with pytest.raises(UserError, match=f"{MLP} is held as .*8.*, so it is quantised") as error:
            resid(checkpoint)
        assert "\n" not in str(error.value)


def test_the_empty_weights_of_zero_3_are_named(checkpoint: Path) -> None:
    save_again(checkpoint, lambda saved: {name: torch.zeros(0) for name in saved})
    with pytest.raises(
        UserError, match=r"27 tensors.* shape \(0,\) in its files; .*ZeRO-3"
    ) as error:
        HookedLM(checkpoint, [FIRST])
    assert "\n" not in str(error.value)


def test_a_head_is_needed_only_for_logits(checkpoint: Path) -> None:
    before = resid(checkpoint)
    save_again(checkpoint, lambda saved: {key: saved[key] for key in saved if key != HEAD})
    assert torch.equal(resid(checkpoint), before)
    with pytest.raises(UserError, match=r"for 1 tensors, first lm_head\.weight"):
        HookedLM(checkpoint, [FIRST], whole=True)


def test_a_tied_head_need_not_be_in_the_files(tmp_path: Path) -> None:
    lm = tiny_neox(tie_word_embeddings=True)
    lm.save_pretrained(tmp_path / "checkpoint-7")
    assert HEAD not in load_file(tmp_path / "checkpoint-7" / "model.safetensors")
    with torch.no_grad():
        expected = lm(TOKENS, labels=TOKENS).loss
    found = HookedLM(tmp_path / "checkpoint-7", [FIRST], whole=True).spliced_loss(
        TOKENS, FIRST, None
    )
    assert found == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("is_zip", [True, False], ids=["a zip", "torch before 1.6"])
def test_pickled_weights_are_read(checkpoint: Path, is_zip: bool) -> None:
    expected = resid(checkpoint)
    file = checkpoint / "model.safetensors"
    weights = load_file(file)
    file.unlink()
    file = checkpoint / "pytorch_model.bin"
    torch.save(weights, file, _use_new_zipfile_serialization=is_zip)
    assert torch.equal(resid(checkpoint), expected)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        resid(checkpoint)
    assert "\n" not in str(caught.value)


class Evil:
    """What a pickle may do when it is read."""

    def __reduce__(self) -> Any:
        return print, ("run",)


def test_a_pickle_with_anything_but_weights_is_never_run(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoint / "model.safetensors").unlink()
    torch.save({"a": Evil()}, checkpoint / "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        resid(checkpoint)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_the_attention_that_a_config_names_is_not_needed(checkpoint: Path) -> None:
    expected = resid(checkpoint)
    config = json.loads((checkpoint / "config.json").read_text())
    config["_attn_implementation"] = "flash_attention_2"
    (checkpoint / "config.json").write_text(json.dumps(config))
    assert torch.equal(resid(checkpoint), expected)


def test_numbers_of_blocks_by_other_names_are_known(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = GPTNeoConfig(
        vocab_size=97,
        hidden_size=32,
        num_layers=3,
        num_heads=4,
        intermediate_size=64,
        max_position_embeddings=32,
        window_size=4,
        attention_types=[[["global", "local"], 1], [["global"], 1]],
    )
    lm = GPTNeoForCausalLM(config).eval()
    lm.save_pretrained(tmp_path / "checkpoint-7")
    found = resid(tmp_path / "checkpoint-7", layer=2)
    torch.testing.assert_close(found, hidden_state(lm, 2), atol=1e-6, rtol=0)


def test_a_block_that_is_not_there_is_one_line(checkpoint: Path) -> None:
    with pytest.raises(UserError, match="checkpoint-7 has layers 0 to 1, and no 3"):
        HookedLM(checkpoint, [Hook("resid_pre", 0), Hook("resid_pre", 3)])


def test_a_token_beyond_the_embedding_is_one_line(checkpoint: Path) -> None:
    lm = HookedLM(checkpoint, [FIRST])
    lm.activations(torch.tensor([[96]]))
    with pytest.raises(UserError, match="token 97, and the embedding only 97 rows"):
        lm.activations(torch.tensor([[3, 97]]))


def test_residuals_that_overflow_are_refused(checkpoint: Path) -> None:
    save_again(
        checkpoint, lambda saved: saved | {EMBEDDING: torch.full_like(saved[EMBEDDING], 1e38)}
    )
    name = "gpt_neox.layers.0.mlp.dense_4h_to_h.bias"
    save_again(checkpoint, lambda saved: saved | {name: torch.full_like(saved[name], 3.4e38)})
    with pytest.raises(UserError, match=r"activations at resid_pre\.1 are not finite"):
        resid(checkpoint)


def test_no_cache_of_keys_and_values_is_made(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = HookedLM(checkpoint, [FIRST], whole=True)
    monkeypatch.setattr(DynamicCache, "__init__", lambda *_, **__: pytest.fail("a cache"))
    lm.activations(TOKENS)
    lm.spliced_loss(TOKENS, 1, None)
