"""Every kind of hook, against the modules of transformers' own LM of every architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import transformers as hf
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from saetrack.lm.catalog.architectures import has_resid_mid
from saetrack.lm.hook import KINDS, Hook, parse_hook
from saetrack.lm.hooked import HookedLM
from saetrack.utils.errors import UserError
from tests.support.architectures import CONFIGS, SAME, TOKENS, in_a_cache, tiny

# The blocks, and the modules of a block whose outputs are added to the residual stream. BLOOM's
# attention and MLP add the stream themselves; where a norm follows (Gemma 2, OLMo 2), it counts.
NORMS = ("model.layers", "post_attention_layernorm", "post_feedforward_layernorm")
MODULES = {
    "bloom": ("transformer.h", "self_attention.dense", "mlp.dense_4h_to_h"),
    "gemma2": NORMS,
    "gpt2": ("transformer.h", "attn", "mlp"),
    "gpt_neox": ("gpt_neox.layers", "attention", "mlp"),
    "olmo2": NORMS,
    "olmo3": NORMS,
    "opt": ("model.decoder.layers", "self_attn", "fc2"),
}
LIKE_LLAMA = ("model.layers", "self_attn", "mlp")


class Modules(NamedTuple):
    """Of one block of transformers' own LM."""

    block: nn.Module
    attention: nn.Module
    mlp: nn.Module


class Published(NamedTuple):
    model: hf.PreTrainedModel
    folder: Path
    kinds: tuple[str, ...]
    lm: HookedLM

    @property
    def n_layers(self) -> int:
        return int(self.model.config.num_hidden_layers)

    @property
    def hooks(self) -> tuple[Hook, ...]:
        return self.lm.hooks

    def modules(self, layer: int) -> Modules:
        blocks, *rest = MODULES.get(self.model.config.model_type, LIKE_LLAMA)
        block = self.model.get_submodule(f"{blocks}.{layer}")
        return Modules(block, *(block.get_submodule(name) for name in rest))


# GPT-NeoX as the catalogue has it is parallel; own LMs may be sequential.
SEQUENTIAL = {"gpt_neox, sequential": lambda: hf.GPTNeoXConfig(**SAME, use_parallel_residual=False)}


@pytest.fixture(scope="module", params=sorted(CONFIGS | SEQUENTIAL))
def published(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Published:
    model = tiny((CONFIGS | SEQUENTIAL)[request.param]())
    folder = in_a_cache(model, tmp_path_factory.mktemp("lm"))
    kinds = tuple(kind for kind in KINDS if kind != "resid_mid" or request.param != "gpt_neox")
    hooks = [Hook(kind, n) for n in range(model.config.num_hidden_layers) for kind in kinds]  # type: ignore[arg-type]
    return Published(model, folder, kinds, HookedLM(folder, hooks, residual="raw", whole=True))


def first(output: Any) -> Tensor:
    tensor: Tensor = output[0] if isinstance(output, tuple) else output
    return tensor.view(*TOKENS.shape, -1)  # OPT's MLP has rows and context in one dimension


def of_transformers(published: Published) -> dict[Hook, Tensor]:
    """What the modules give, by plain forward hooks; the stream between them is their sum."""
    found: dict[Hook, Tensor] = {}
    handles = []

    def keep(kind: Any, layer: int) -> Any:
        return lambda _module, _args, output: found.update({Hook(kind, layer): first(output)})

    for layer in range(published.n_layers):
        block, attention, mlp = published.modules(layer)
        handles += [
            block.register_forward_hook(keep("resid_post", layer)),
            attention.register_forward_hook(keep("attn_out", layer)),
            mlp.register_forward_hook(keep("mlp_out", layer)),
        ]
    with torch.no_grad():
        hidden = published.model(TOKENS, output_hidden_states=True).hidden_states
    for handle in handles:
        handle.remove()
    for layer in range(published.n_layers):
        found[Hook("resid_pre", layer)] = hidden[layer]
        found[Hook("resid_mid", layer)] = hidden[layer] + found[Hook("attn_out", layer)]
    return found


def test_every_hook_gives_what_transformers_gives(published: Published) -> None:
    expected = of_transformers(published)
    together = published.lm.activations(TOKENS)
    for hook, found in zip(published.hooks, together, strict=True):
        torch.testing.assert_close(found, expected[hook], atol=1e-5, rtol=0)


def test_a_hook_alone_gives_the_same_and_runs_no_block_above_it(published: Published) -> None:
    together = published.lm.activations(TOKENS)
    for hook in (Hook("resid_pre", 1), Hook("attn_out", 1), Hook("resid_post", 1)):
        expected = together[published.hooks.index(hook)]
        lm = HookedLM(published.folder, [hook], residual="raw")
        ran: list[nn.Module] = []
        components = list(lm._lm.blocks)
        for component in components:
            component.register_forward_pre_hook(lambda module, _, ran=ran: ran.append(module))
        # Of the stream's hooks alone, transformers runs with torch's fused attention.
        torch.testing.assert_close(lm.activations(TOKENS)[0], expected, atol=1e-5, rtol=0)
        assert ran == components[: hook.n_blocks]
        assert len(lm._lm.blocks) == 2


def own_loss(model: hf.PreTrainedModel) -> float:
    with torch.no_grad():
        logits = model(TOKENS).logits
    return float(cross_entropy(logits[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten()))


def ablated_loss(published: Published, hook: Hook) -> float:
    """With zeros in the hook's place, by a hook on transformers' own modules."""
    block, attention, mlp = published.modules(hook.layer)
    entered: list[Tensor] = []

    def zero(output: Any) -> Any:
        return (zero(output[0]), *output[1:]) if isinstance(output, tuple) else output * 0

    def instead(output: Any, tensor: Tensor) -> Any:
        if isinstance(output, tuple):
            return (instead(output[0], tensor), *output[1:])
        return tensor.view_as(output)

    def enter(_: Any, args: Any, kwargs: Any) -> Any:
        given = args[0] if args else kwargs["hidden_states"]
        entered.append(given)
        if hook.kind != "resid_pre":
            return None
        if args:
            return (given * 0, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": given * 0}

    by_kind = {
        "resid_post": (block, lambda _module, _args, output: zero(output)),
        "attn_out": (attention, lambda _module, _args, output: zero(output)),
        "mlp_out": (mlp, lambda _module, _args, output: zero(output)),
        # What attention adds takes away all that entered.
        "resid_mid": (attention, lambda _module, _args, output: instead(output, -entered[0])),
    }
    handles = [block.register_forward_pre_hook(enter, with_kwargs=True)]
    if hook.kind in by_kind:
        module, change = by_kind[hook.kind]
        handles.append(module.register_forward_hook(change))
    loss = own_loss(published.model)
    for handle in handles:
        handle.remove()
    return loss


def test_splicing_at_every_hook_is_an_intervention_there(published: Published) -> None:
    loss = own_loss(published.model)
    hooks = [hook for hook in published.hooks if hook.layer in (1, published.n_layers - 1)]
    lm = published.lm
    for hook in hooks:
        assert lm.spliced_loss(TOKENS, hook, lambda x: x) == pytest.approx(loss, abs=1e-6), hook
        zero = lm.spliced_loss(TOKENS, hook, torch.zeros_like)
        assert zero == pytest.approx(ablated_loss(published, hook), abs=1e-5), hook
        assert zero != pytest.approx(loss, abs=1e-4), hook


def test_what_is_written_to_the_stream_may_be_centred_where_the_norm_ignores_its_mean(
    published: Published,
) -> None:
    lm = published.lm
    if lm._lm.is_rms:
        with pytest.raises(UserError, match="residual='centred'"):
            HookedLM(published.folder, published.hooks)
        return
    raw = lm.activations(TOKENS)
    centred = HookedLM(published.folder, published.hooks).activations(TOKENS)
    torch.testing.assert_close(centred, raw - raw.mean(dim=-1, keepdim=True), atol=0, rtol=0)
    loss = lm.spliced_loss(TOKENS, published.hooks[0], None)
    for hook in published.hooks:
        less = lm.spliced_loss(TOKENS, hook, lambda x: x - x.mean(-1, keepdim=True))
        assert less == pytest.approx(loss, abs=1e-5), hook


OTHERS = {
    "gpt_neox": CONFIGS["gpt_neox"],
    "gptj": lambda: hf.GPTJConfig(
        vocab_size=97, n_embd=32, n_layer=2, n_head=4, rotary_dim=4, n_positions=64
    ),
    "phi": lambda: hf.PhiConfig(**SAME),
    # OPT-350m's norms stand behind the sums.
    "opt": lambda: hf.OPTConfig(
        vocab_size=97,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_dim=64,
        word_embed_proj_dim=32,
        do_layer_norm_before=False,
    ),
}


@pytest.mark.parametrize("architecture", OTHERS)
def test_a_stream_that_does_not_exist_is_refused(architecture: str, tmp_path: Path) -> None:
    config = OTHERS[architecture]()
    assert not has_resid_mid(config.to_dict())
    folder = in_a_cache(tiny(config), tmp_path)
    with pytest.raises(UserError) as caught:
        HookedLM(folder, [Hook("resid_mid", 1)], residual="raw")
    assert str(caught.value) == (
        "hooks=resid_mid.1: this LM has no such hook; it has resid_pre.1, attn_out.1, mlp_out.1, "
        "resid_post.1"
    )
    HookedLM(folder, [Hook("mlp_out", 1)], residual="raw").activations(TOKENS)


@pytest.mark.parametrize("hook", [Hook(kind, 12) for kind in KINDS])
def test_a_hook_is_written_in_two_ways(hook: Hook) -> None:
    assert parse_hook(str(hook)) == parse_hook(hook.name) == hook


@pytest.mark.parametrize(
    "text",
    ["mlp_out", "mlp_out.", "mlp_out.-1", "4.mlp_out", "resid.4", "mlp_out.4\n", "", 4, None],
)
def test_what_is_no_hook_is_refused_with_the_kinds_that_there_are(text: Any) -> None:
    with pytest.raises(
        ValueError, match=r"such as mlp_out.4; kinds: resid_pre, attn_out, resid_mid"
    ):
        parse_hook(text)
