"""What directions add to the logits, against transformers' own final norm and unembedding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers as hf
from torch import Tensor

from saetrack.lm.catalog.architectures import ARCHITECTURES
from saetrack.lm.hook import Hook
from saetrack.lm.hooked import HookedLM
from tests.support.architectures import CONFIGS, TOKENS, VOCABULARY, in_a_cache, pre, tiny

ONE_TOKEN = TOKENS[:1, :1]  # over which the median of the scale is its own


@pytest.fixture(scope="module", params=sorted(CONFIGS))
def published(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, hf.PreTrainedModel, Path]:
    """An architecture, a tiny LM of it, and its checkpoint's folder."""
    model = tiny(CONFIGS[request.param]())
    return request.param, model, in_a_cache(model, tmp_path_factory.mktemp(request.param))


def by_differentiation(model: hf.PreTrainedModel, name: str) -> tuple[Tensor, Tensor]:
    """Directions that leave the norm's scale as it is, and what each adds to the logits there."""
    norm, head = model.get_submodule(name), model.get_output_embeddings()
    caught: list[Tensor] = []
    handle = norm.register_forward_hook(lambda _, x, y: caught.append(x[0][0, 0].detach()))
    with torch.no_grad():
        model(ONE_TOKEN)
    handle.remove()
    x = caught[0]
    of_scale = torch.autograd.functional.jacobian(
        lambda v: (v - v.mean() if "Layer" in type(norm).__name__ else v).norm(), x
    )
    directions = torch.randn(5, len(x), generator=torch.Generator().manual_seed(3))
    directions -= (directions @ of_scale / of_scale.square().sum())[:, None] * of_scale
    jacobian = torch.autograd.functional.jacobian(lambda v: head(norm(v[None, None]))[0, 0], x)
    return directions, directions @ jacobian.T


@pytest.mark.parametrize("hook", [pre(1), Hook("mlp_out", 1)], ids=repr)
def test_a_direction_adds_what_norm_and_unembedding_make_of_it(
    published: tuple[str, hf.PreTrainedModel, Path], hook: Hook
) -> None:
    architecture, model, folder = published
    directions, expected = by_differentiation(model, ARCHITECTURES[architecture].final_norm)
    expected -= expected.mean(dim=1, keepdim=True)
    matrix = HookedLM(folder, [hook], residual="raw", whole=True).readout(ONE_TOKEN, VOCABULARY)
    assert matrix is not None
    torch.testing.assert_close(directions @ matrix.T, expected, atol=2e-5, rtol=2e-4)


def test_padding_of_the_vocabulary_takes_no_part(tmp_path: Path) -> None:
    model = tiny(CONFIGS["llama"]())
    lm = HookedLM(in_a_cache(model, tmp_path), [pre(1)], residual="raw", whole=True)
    matrix = lm.readout(TOKENS, VOCABULARY - 7)
    assert matrix is not None and len(matrix) == VOCABULARY - 7
    torch.testing.assert_close(matrix.mean(dim=0), torch.zeros(32), atol=1e-6, rtol=0)


def test_a_stream_with_a_norm_in_every_block_has_no_direct_path(tmp_path: Path) -> None:
    config = CONFIGS["opt"]()
    config.do_layer_norm_before = False
    config.word_embed_proj_dim = 16
    lm = HookedLM(in_a_cache(tiny(config), tmp_path), [pre(1)], whole=True)
    assert lm.readout(TOKENS, VOCABULARY) is None
