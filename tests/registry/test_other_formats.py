"""Folders of sparsify and dictionary_learning: the same features here, or one line why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from saetrack.registry.formats.any_format import read_foreign
from saetrack.sae.architectures.batchtopk import BatchTopKSAE
from saetrack.utils.errors import UserError

D_IN, D_SAE, K = 12, 40, 5


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X = drawn(100, D_IN, seed=9) + 0.5
W_ENC, B_ENC, B_DEC = drawn(D_IN, D_SAE), 0.3 * drawn(D_SAE, seed=1), drawn(D_IN, seed=2)
W_DEC = torch.nn.functional.normalize(drawn(D_SAE, D_IN, seed=3), dim=1)
FREE_W_DEC = W_DEC * torch.linspace(0.2, 3, D_SAE)[:, None]
THRESHOLD = torch.linspace(-0.5, 1, D_SAE)


def top(acts: Tensor) -> Tensor:
    """The k largest of each token."""
    found = acts.topk(K, dim=1)
    return torch.zeros_like(acts).scatter(1, found.indices, found.values)


# Their forward passes, as their sources have them, of the weights above.
SHIFTED = torch.relu((X - B_DEC) @ W_ENC + B_ENC)
UNSHIFTED = X @ W_ENC + B_ENC

LINEAR = {"encoder.weight": W_ENC.T, "encoder.bias": B_ENC, "decoder.weight": W_DEC.T}
PLAIN = {"W_enc": W_ENC, "b_enc": B_ENC, "W_dec": W_DEC, "b_dec": B_DEC}
K_AND_THRESHOLD = {"k": torch.tensor(K, dtype=torch.int), "threshold": torch.tensor(0.8)}

DICTIONARIES: dict[str, tuple[dict[str, Tensor], Tensor, Tensor]] = {
    "AutoEncoder": (
        {**LINEAR, "decoder.weight": FREE_W_DEC.T, "bias": B_DEC},
        SHIFTED,
        SHIFTED @ FREE_W_DEC + B_DEC,
    ),
    "AutoEncoderNew": (
        {**LINEAR, "decoder.weight": FREE_W_DEC.T, "decoder.bias": B_DEC},
        torch.relu(UNSHIFTED),
        torch.relu(UNSHIFTED) @ FREE_W_DEC + B_DEC,
    ),
    "AutoEncoderTopK": (
        {**LINEAR, "b_dec": B_DEC, **K_AND_THRESHOLD},
        top(SHIFTED),
        top(SHIFTED) @ W_DEC + B_DEC,
    ),
    "BatchTopKSAE": (
        {**LINEAR, "b_dec": B_DEC, **K_AND_THRESHOLD},
        SHIFTED * (SHIFTED > 0.8),
        SHIFTED * (SHIFTED > 0.8) @ W_DEC + B_DEC,
    ),
    "MatryoshkaBatchTopKSAE": (
        {**PLAIN, **K_AND_THRESHOLD, "group_sizes": torch.tensor([8, 32])},
        SHIFTED * (SHIFTED > 0.8),
        SHIFTED * (SHIFTED > 0.8) @ W_DEC + B_DEC,
    ),
    "JumpReluAutoEncoder": (
        {**PLAIN, "W_dec": FREE_W_DEC, "threshold": THRESHOLD},
        torch.relu(UNSHIFTED * (UNSHIFTED > THRESHOLD)),
        torch.relu(UNSHIFTED * (UNSHIFTED > THRESHOLD)) @ FREE_W_DEC + B_DEC,
    ),
}


def dictionary(folder: Path, name: str, tensors: dict[str, Any], **changes: Any) -> Path:
    """A folder as dictionary_learning writes it."""
    trainer = {
        "dict_class": name,
        "activation_dim": D_IN,
        "dict_size": D_SAE,
        "lm_name": "EleutherAI/pythia-70m-deduped",
        "layer": 3,
        "submodule_name": "resid_post_layer_3",
    }
    if "k" in tensors:
        trainer["k"] = K
    config = {"trainer": trainer | changes.pop("trainer", {}), "buffer": {"io": "out"}, **changes}
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(tensors, folder / "ae.pt")
    return folder


def sparse_coder(place: Path, hook: str = "layers.3", /, **changes: Any) -> Path:
    """A folder as sparsify writes it."""
    folder = place / hook
    folder.mkdir(parents=True)
    tensors = {
        "encoder.weight": W_ENC.T,
        "encoder.bias": B_ENC,
        "W_dec": W_DEC,
        "b_dec": B_DEC,
        **changes.pop("tensors", {}),
    }
    save_file({n: t.contiguous() for n, t in tensors.items()}, folder / "sae.safetensors")
    cfg = {
        "activation": "topk",
        "expansion_factor": 32,
        "normalize_decoder": True,
        "num_latents": D_SAE,
        "k": K,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": D_IN,
    }
    (folder / "cfg.json").write_text(json.dumps(cfg | changes))
    return folder


def require_same(folder: Path, feature_acts: Tensor, sae_out: Tensor) -> None:
    sae = read_foreign(folder).sae
    with torch.no_grad():
        here = sae.encode(X)
        torch.testing.assert_close(sae.decode(here), sae_out, rtol=1e-5, atol=1e-5)
    assert 0 < (feature_acts > 0).float().mean() < 0.9
    assert torch.equal(here > 0, feature_acts > 0)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(D_SAE))


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "torch before 1.6"])
@pytest.mark.parametrize("name", DICTIONARIES)
def test_every_dictionary_computes_the_same_here(tmp_path: Path, name: str, is_zip: bool) -> None:
    tensors, feature_acts, sae_out = DICTIONARIES[name]
    folder = dictionary(tmp_path, name, tensors)
    if not is_zip:
        torch.save(tensors, folder / "ae.pt", _use_new_zipfile_serialization=False)
    require_same(folder, feature_acts, sae_out)
    foreign = read_foreign(folder)
    assert foreign.metadata["model_name"] == "EleutherAI/pythia-70m-deduped"
    assert foreign.metadata["hook_name"] == "blocks.3.hook_resid_post"
    assert (foreign.residual, foreign.feature_density) == ("raw", None)


def test_a_threshold_that_was_never_set_lets_all_through_as_it_does_there(tmp_path: Path) -> None:
    tensors, _, _ = DICTIONARIES["BatchTopKSAE"]
    folder = dictionary(tmp_path, "BatchTopKSAE", {**tensors, "threshold": torch.tensor(-1.0)})
    require_same(folder, SHIFTED, SHIFTED @ W_DEC + B_DEC)
    sae = read_foreign(folder).sae
    assert isinstance(sae, BatchTopKSAE) and float(sae.topk_threshold) == 0


@pytest.mark.parametrize(
    ("hook", "name"),
    [
        ("layers.3", "blocks.3.hook_resid_post"),
        ("h.10", "blocks.10.hook_resid_post"),
        ("layers.3.mlp", "blocks.3.hook_mlp_out"),
        ("layers.3.self_attn", "blocks.3.hook_attn_out"),
        ("layers.3/seed1", "blocks.3.hook_resid_post"),
        ("layers.3.mlp.down_proj", None),
        ("embed_tokens", None),
    ],
)
def test_a_sparse_coder_computes_the_same_here(tmp_path: Path, hook: str, name: str | None) -> None:
    folder = sparse_coder(tmp_path, hook)
    require_same(folder, top(SHIFTED), top(SHIFTED) @ W_DEC + B_DEC)
    assert read_foreign(folder).metadata["hook_name"] == name


def test_older_sparse_coders_are_read(tmp_path: Path) -> None:
    """They name no activation, and their size by the expansion factor."""
    folder = sparse_coder(tmp_path)
    doubled = torch.cat([W_ENC, -W_ENC], dim=1)[:, : 2 * D_IN]
    tensors = {
        "encoder.weight": doubled.T,
        "encoder.bias": B_ENC[: 2 * D_IN],
        "W_dec": W_DEC[: 2 * D_IN],
        "b_dec": B_DEC,
    }
    save_file({n: t.contiguous() for n, t in tensors.items()}, folder / "sae.safetensors")
    cfg = {"expansion_factor": 2, "num_latents": 0, "k": K, "d_in": D_IN, "signed": False}
    (folder / "cfg.json").write_text(json.dumps(cfg))
    assert read_foreign(folder).sae.settings() == {
        "architecture": "topk",
        "d_in": D_IN,
        "d_sae": 2 * D_IN,
        "k": K,
    }


class Harmful:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return (print, ("never",))


TOPK = DICTIONARIES["AutoEncoderTopK"][0]
BROKEN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "gated": (
        lambda place: dictionary(place, "GatedAutoEncoder", LINEAR),
        r"trainer.dict_class='GatedAutoEncoder': must be one of AutoEncoder, AutoEncoderNew",
    ),
    "no class": (
        lambda place: dictionary(place, "AutoEncoder", {}, trainer={"dict_class": None}),
        r"dict_class=None: must be one of",
    ),
    "transcoder there": (
        lambda place: dictionary(place, "AutoEncoder", LINEAR, buffer={"io": "in_and_out"}),
        r"buffer.io='in_and_out': must be 'in' or 'out'; .*transcoder",
    ),
    "a pickle of code": (
        lambda place: dictionary(place, "AutoEncoderTopK", {**TOPK, "more": Harmful()}),
        r"a pickle that holds more than tensors is never read",
    ),
    "a backup": (
        lambda place: dictionary(
            place, "AutoEncoderTopK", {"step": 9, "ae": TOPK, "optimizer": {}, "norm_factor": 2.0}
        ),
        r"ae.pt: is the backup of a training that has not ended \(step 9\)",
    ),
    "another k": (
        lambda place: dictionary(place, "AutoEncoderTopK", TOPK, trainer={"k": 6}),
        r"ae.pt: k differs from that of config.json, 6",
    ),
    "a shape": (
        lambda place: dictionary(place, "AutoEncoderTopK", TOPK, trainer={"dict_size": 41}),
        r"ae.pt: encoder.weight has shape \(40, 12\); config.json says \(41, 12\)",
    ),
    "a NaN": (
        lambda place: dictionary(
            place, "AutoEncoderTopK", {**TOPK, "encoder.bias": B_ENC / torch.zeros(D_SAE)}
        ),
        r"encoder.bias holds values that are not finite",
    ),
    "free rows": (
        lambda place: dictionary(
            place, "AutoEncoderTopK", {**TOPK, "decoder.weight": FREE_W_DEC.T}
        ),
        r"W_dec has rows of norm 0.2 to 3; of a topk SAE all must have the same",
    ),
    "no config": (
        lambda place: (dictionary(place, "AutoEncoder", {}), (place / "config.json").unlink())[0],
        r"config.json: cannot be read",
    ),
    "groupmax": (
        lambda place: sparse_coder(place, activation="groupmax"),
        r"cfg.json: activation='groupmax': must be 'topk'",
    ),
    "transcoder": (lambda place: sparse_coder(place, transcode=True), r"transcode=True: must be F"),
    "skip": (
        lambda place: sparse_coder(place, skip_connection=True),
        r"skip_connection=True: must be False",
    ),
    "a tensor too many": (
        lambda place: sparse_coder(place, tensors={"W_skip": torch.zeros(D_IN, D_IN)}),
        r"W_skip: unknown tensor; known: encoder.weight, encoder.bias, W_dec, b_dec",
    ),
    "no width": (
        lambda place: sparse_coder(place, d_in=None),
        r"encoder.weight has shape \(40, 12\); cfg.json says \(40, None\)",
    ),
    "no k": (lambda place: sparse_coder(place, k=0), r"k=0 must be a whole number above 0"),
    "several hooks": (
        lambda place: (sparse_coder(place), sparse_coder(place, "layers.4"), place)[-1],
        r"holds folders of SAEs \(layers.3, layers.4\); name one",
    ),
    "nothing": (
        lambda place: place,
        r"holds no SAE of a known format; taken are the folders of SAELens \(cfg.json, sae_weig",
    ),
    "no folder": (lambda place: place / "absent", r"absent: no such folder; taken are"),
    "two SAEs": (
        lambda place: dictionary(sparse_coder(place), "AutoEncoder", LINEAR),
        r"holds several SAEs, ae.pt and sae.safetensors; keep one",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_cannot_be_ours_is_one_line(
    tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, line = BROKEN[what]
    folder = make(tmp_path)
    with pytest.raises(UserError, match=line) as caught:
        read_foreign(folder)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == "", "no code of a pickle is run"


def test_a_pickle_that_is_cut_off_is_one_line(tmp_path: Path) -> None:
    file = dictionary(tmp_path, "AutoEncoderTopK", TOPK) / "ae.pt"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"ae\.pt: ") as caught:
        read_foreign(tmp_path)
    assert "\n" not in str(caught.value)
