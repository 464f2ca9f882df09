"""Every architecture of the catalogue, from a tiny LM of its own config."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers as hf
from torch.nn.functional import cross_entropy

from saetrack.lm.catalog.architectures import ARCHITECTURES, memory_bytes, norm_of, parameters
from saetrack.lm.catalog.entry import Entry
from saetrack.lm.catalog.models import entries, find_model
from saetrack.lm.hooked import HookedLM
from saetrack.utils.errors import UserError
from tests.support.architectures import CONFIGS, TOKENS, in_a_cache, pre, tiny

# Of float32, where torch's fused attention stands for the plain one.
FUSED = 1e-5


@pytest.fixture(scope="module", params=sorted(CONFIGS))
def published(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, hf.PreTrainedModel, Path]:
    """An architecture, a tiny LM of it, and its checkpoint's folder."""
    architecture = request.param
    model = tiny(CONFIGS[architecture]())
    return architecture, model, in_a_cache(model, tmp_path_factory.mktemp(architecture))


def test_each_architecture_of_the_catalogue_is_proven_here() -> None:
    assert set(CONFIGS) == set(ARCHITECTURES)
    assert {entry.architecture for entry in entries()} - {None} == set(ARCHITECTURES)


def test_residuals_of_every_layer_equal_those_of_transformers(
    published: tuple[str, hf.PreTrainedModel, Path],
) -> None:
    _, model, folder = published
    layers = range(model.config.num_hidden_layers)
    lm = HookedLM(folder, [pre(layer) for layer in layers], residual="raw")
    attention = lm._lm.model.config._attn_implementation
    same = hf.AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention).eval()
    with torch.no_grad():  # the last of the hidden states is behind the final norm
        plain, exact = (
            of(TOKENS, output_hidden_states=True).hidden_states[: len(layers)]
            for of in (model, same)
        )
    together = lm.activations(TOKENS)
    for layer in layers:
        (alone,) = HookedLM(folder, [pre(layer)], residual="raw").activations(TOKENS)
        assert torch.equal(alone, exact[layer])
        assert torch.equal(together[layer], exact[layer])
        torch.testing.assert_close(alone, plain[layer], atol=FUSED, rtol=0)


@pytest.mark.parametrize("own_scale", [False, True])
def test_stanfords_own_scale_of_attention_is_kept(tmp_path: Path, own_scale: bool) -> None:
    config = CONFIGS["gpt2"]()
    config.scale_attn_by_inverse_layer_idx = own_scale
    model = tiny(config)
    lm = HookedLM(in_a_cache(model, tmp_path), [pre(2)], residual="raw")
    with torch.no_grad():
        expected = model(TOKENS, output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(lm.activations(TOKENS)[0], expected, atol=FUSED, rtol=0)
    assert lm._lm.model.config._attn_implementation == ("eager" if own_scale else "sdpa")


def test_the_spliced_loss_is_the_models_own(
    published: tuple[str, hf.PreTrainedModel, Path],
) -> None:
    _, model, folder = published
    with torch.no_grad():
        logits = model(TOKENS).logits
    loss = float(cross_entropy(logits[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten()))
    lm = HookedLM(folder, [pre(1)], residual="raw", whole=True)
    assert lm.spliced_loss(TOKENS, pre(1), None) == pytest.approx(loss, abs=1e-6)
    assert lm.spliced_loss(TOKENS, pre(1), lambda resid: resid) == pytest.approx(loss, abs=1e-6)
    assert lm.spliced_loss(TOKENS, pre(1), torch.zeros_like) != pytest.approx(loss, abs=1e-3)


def test_of_known_activations_only_what_lies_above_runs(
    published: tuple[str, hf.PreTrainedModel, Path],
) -> None:
    _, _, folder = published
    lm = HookedLM(folder, [pre(1)], residual="raw", whole=True)
    (raw,) = lm.activations(TOKENS)
    whole = lm.log_p(TOKENS, pre(1), lambda x: 0.5 * x)
    for weight in lm._lm.blocks[0].parameters():
        weight.fill_(torch.nan)
    assert torch.equal(lm.log_p(TOKENS, pre(1), lambda x: 0.5 * x, raw), whole)
    assert lm.log_p(TOKENS, pre(1), lambda x: 0.5 * x).isnan().all(), "the block runs again"


def test_centring_is_refused_exactly_where_it_would_change_the_lm(
    published: tuple[str, hf.PreTrainedModel, Path],
) -> None:
    architecture, _, folder = published
    raw = HookedLM(folder, [pre(1)], residual="raw", whole=True)
    loss = raw.spliced_loss(TOKENS, pre(1), None)
    centred = raw.spliced_loss(TOKENS, pre(1), lambda x: x - x.mean(-1, keepdim=True))
    norm = ARCHITECTURES[architecture].norm
    if norm == "layer":
        assert centred == pytest.approx(loss, abs=1e-5)
        HookedLM(folder, [pre(1)], residual="centred")
    else:
        assert centred != pytest.approx(loss, abs=1e-4)
        with pytest.raises(UserError, match=r"residual='centred': .*RMSNorm.*residual=raw"):
            HookedLM(folder, [pre(1)], residual="centred")
    assert norm_of(json.loads((folder / "config.json").read_text())) == norm


def test_the_weights_below_a_hook_are_each_there_once(
    published: tuple[str, hf.PreTrainedModel, Path],
) -> None:
    _, model, folder = published
    model.zero_grad()
    model(TOKENS, output_hidden_states=True).hidden_states[1].sum().backward()
    needed = sum(weight.numel() for weight in model.parameters() if weight.grad is not None)
    below = HookedLM(folder, [pre(1)], residual="raw").weights_below()
    assert sum(weight.numel() for weight in below.values()) == needed


def test_parameters_are_counted_as_transformers_has_them(
    published: tuple[str, hf.PreTrainedModel, Path],
) -> None:
    architecture, _, _ = published
    named = {entry.architecture: entry for entry in reversed(entries())}
    entry = named[architecture]
    config = CONFIGS[architecture]()
    n_heads = 8
    d_query = entry.d_query or entry.d_model
    sizes = {
        "vocab_size": entry.vocabulary,
        "hidden_size": entry.d_model,
        "num_hidden_layers": 2,
        "num_attention_heads": n_heads,
        "intermediate_size": entry.d_mlp,
        "ffn_dim": entry.d_mlp,
        "n_inner": entry.d_mlp,
        "word_embed_proj_dim": entry.d_model,
        "head_dim": d_query // n_heads,
        "num_key_value_heads": n_heads * (entry.d_key or d_query) // d_query,
        "num_experts": entry.n_experts,
        "max_position_embeddings": entry.max_context,
        "tie_word_embeddings": (
            ARCHITECTURES[architecture].tied if entry.tied is None else entry.tied
        ),
    }
    for name, value in sizes.items():
        if hasattr(config, name):
            setattr(config, name, value)
    with torch.device("meta"):
        model = hf.AutoModelForCausalLM.from_config(config)
    counted = sum(weight.numel() for weight in model.parameters())
    assert parameters(entry, 2) == pytest.approx(counted, rel=0.005)


@pytest.mark.parametrize(
    ("model", "billions"),
    [  # as the repositories tell
        ("pythia-2.8b", 2.775),
        ("bloom-560m", 0.559),
        ("k2", 65.286),
        ("olmo-3-7b", 7.298),
        ("olmoe-1b-7b", 6.92),
        ("qwen-3-0.6b", 0.596),
        ("gemma-2-2b", 2.614),
        ("stanford-gpt2-small-a", 0.124),
    ],
)
def test_whole_lms_have_the_size_that_they_are_known_by(model: str, billions: float) -> None:
    entry = find_model(model).entry
    assert entry is not None
    memory = memory_bytes(entry, None)
    assert memory is not None
    assert memory / 4e9 == pytest.approx(billions, rel=0.005)


def test_a_key_that_nothing_reads_does_not_tell_the_norm() -> None:
    assert norm_of({"model_type": "olmo", "rms_norm_eps": 1e-5}) == "layer"
    assert norm_of({"model_type": "mistral", "rms_norm_eps": 1e-5}) == "rms"
    assert norm_of({"model_type": "falcon", "layer_norm_epsilon": 1e-5}) == "layer"


def test_what_an_entry_does_not_tell_is_not_made_up() -> None:
    assert memory_bytes(Entry(name="x", repo="me/x", revision="step{lm_step}"), None) is None


def test_code_of_a_repository_is_never_run(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-1"
    folder.mkdir()
    config = {
        "model_type": "crystalcoder",
        "auto_map": {
            "AutoConfig": "configuration_crystalcoder.CrystalCoderConfig",
            "AutoModelForCausalLM": "modeling_crystalcoder.CrystalCoderLMHeadModel",
        },
        "num_hidden_layers": 2,
    }
    (folder / "config.json").write_text(json.dumps(config))
    marker = tmp_path / "ran"
    for name in ("configuration_crystalcoder.py", "modeling_crystalcoder.py"):
        (folder / name).write_text(f"open({str(marker)!r}, 'w')\n")
    with pytest.raises(UserError, match="model: checkpoint-1 cannot be loaded: ") as caught:
        HookedLM(folder, [pre(1)], residual="raw")
    assert "\n" not in str(caught.value)
    assert not marker.exists()
