"""SAELens' folders: what is written computes the same there, what is read the same here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from saetrack.registry.formats.saelens import SPARSITY_FILE, read_saelens, write_saelens
from saetrack.sae.config import (
    BatchTopKConfig,
    JumpReLUConfig,
    ReLUConfig,
    SAEConfig,
    TopKConfig,
)
from saetrack.sae.files import CONFIG_FILE, WEIGHTS_FILE
from saetrack.sae.model import SAE
from saetrack.utils.errors import UserError
from tests.support.plain_sae import fresh_sae, name_of

D_IN, D_SAE, TOKENS = 24, 96, 200


def theirs(folder: Path, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """SAELens' forward pass from its files, in float64: feature_acts and sae_out."""
    cfg = json.loads((folder / CONFIG_FILE).read_text())
    weights = {name: t.double() for name, t in load_file(folder / WEIGHTS_FILE).items()}
    sae_in = x.double() - weights["b_dec"] * cfg["apply_b_dec_to_input"]
    hidden_pre = sae_in @ weights["W_enc"] + weights["b_enc"]
    feature_acts = torch.relu(hidden_pre)
    if cfg.get("architecture") == "jumprelu":
        feature_acts *= hidden_pre > weights["threshold"]
    elif cfg.get("architecture") == "topk":
        top = hidden_pre.topk(cfg["k"], dim=-1)
        feature_acts = torch.zeros_like(hidden_pre).scatter(-1, top.indices, top.values.relu())
    return feature_acts, feature_acts @ weights["W_dec"] + weights["b_dec"]


KINDS = (ReLUConfig(), TopKConfig(k=9), BatchTopKConfig(k=9), JumpReLUConfig())


@pytest.fixture
def sae() -> SAE:
    """Weights as after training: biases that are not zero, `b_dec` with a mean that is not."""
    return trained_sae(ReLUConfig())


def trained_sae(config: SAEConfig) -> SAE:
    """As `sae`, of any architecture."""
    torch.manual_seed(0)
    sae = fresh_sae(config, torch.randn(D_IN) + 0.7, D_SAE)
    with torch.no_grad():
        sae.b_enc.copy_(0.1 * torch.randn(D_SAE))
    return sae


@pytest.fixture
def raw() -> torch.Tensor:
    """Residuals with a mean over d_in as large as themselves."""
    return torch.randn(TOKENS, D_IN, generator=torch.Generator().manual_seed(1)) + 3


def cfg_of(residual: str = "centred", **changes: Any) -> dict[str, Any]:
    corpus = {"dataset": "/elsewhere/text.jsonl", "context_size": 128, "exclude_bos": False}
    track = {"model": "/elsewhere/lm", "residual": residual, "corpus": corpus}
    known = {
        "chain": "c",
        "link": 3,
        "identity": "1f",
        "parent_identity": "0e",
        "lm": "pythia-70m",
        "layer": 4,
        "direction": "forward",
        "seed": 0,
        "lm_step": 512,
        "checkpoint_index": 10,
        "commit": "ab",
        "tokens": 5,
        "corpus": "cd",
        "residual_mean_distance": 2.5,
        "repo": "EleutherAI/pythia-70m",
        "revision": "step512",
        "hook_name": "blocks.4.hook_resid_pre",
        "metrics": {"l0": 3.0},
        "track": track,
    }
    return {**known, **changes}


def written(folder: Path, sae: SAE, residual: str = "centred") -> Path:
    density = torch.linspace(0, 0.5, sae.d_sae)
    write_saelens(folder, sae, cfg_of(residual), density)
    return folder


def test_features_there_are_the_same_on_centred_and_on_raw_residuals(
    tmp_path: Path, sae: SAE, raw: torch.Tensor
) -> None:
    written(tmp_path, sae)
    centred = raw - raw.mean(dim=-1, keepdim=True)
    with torch.no_grad():
        feature_acts = sae.encode(centred)
        sae_out = sae.decode(feature_acts)
    assert (feature_acts > 0).float().mean() > 0.2
    for x in (centred, raw):
        there, out_there = theirs(tmp_path, x)
        torch.testing.assert_close(there.float(), feature_acts, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(out_there.float(), sae_out, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", KINDS, ids=name_of)
def test_every_architecture_computes_the_same_there_and_comes_back(
    tmp_path: Path, raw: torch.Tensor, config: SAEConfig
) -> None:
    sae = trained_sae(config)
    folder = written(tmp_path, sae)
    centred = raw - raw.mean(dim=-1, keepdim=True)
    with torch.no_grad():
        feature_acts = sae.encode(centred)
        assert 0 < (feature_acts > 0).float().mean() < 0.6
        for x in (centred, raw):
            there, _ = theirs(folder, x)
            torch.testing.assert_close(there.float(), feature_acts, rtol=1e-5, atol=1e-5)
        back = read_saelens(folder).sae
        torch.testing.assert_close(back.encode(raw), feature_acts, rtol=1e-5, atol=1e-5)


def test_a_foreign_jumprelu_with_free_rows_keeps_its_features(
    tmp_path: Path, raw: torch.Tensor
) -> None:
    folder = written(tmp_path, trained_sae(JumpReLUConfig()), "raw")
    weights = load_file(folder / WEIGHTS_FILE)
    weights["W_dec"] *= torch.linspace(0.2, 3, D_SAE)[:, None]
    weights["threshold"][:5] = -1.0
    save_file(weights, folder / WEIGHTS_FILE)
    there, sae_out = theirs(folder, raw)
    back = read_saelens(folder).sae
    with torch.no_grad():
        here = back.encode(raw)
        torch.testing.assert_close(here > 0, there > 0)
        torch.testing.assert_close(back.decode(here), sae_out.float(), rtol=1e-5, atol=1e-5)


def test_a_topk_with_free_rows_is_refused_unless_it_ranks_by_norm(tmp_path: Path) -> None:
    folder = written(tmp_path, trained_sae(TopKConfig(k=9)), "raw")
    weights = load_file(folder / WEIGHTS_FILE)
    weights["W_dec"] *= torch.linspace(0.2, 3, D_SAE)[:, None]
    save_file(weights, folder / WEIGHTS_FILE)
    with pytest.raises(UserError, match=r"W_dec has rows of norm 0.2 to 3; .*rescale_acts_by_dec"):
        read_saelens(folder)
    cfg = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps({**cfg, "rescale_acts_by_decoder_norm": True}))
    assert read_saelens(folder).sae.architecture == "topk"


def test_a_raw_sae_is_written_bit_by_bit(tmp_path: Path, sae: SAE) -> None:
    written(tmp_path, sae, "raw")
    for name, tensor in load_file(tmp_path / WEIGHTS_FILE).items():
        assert torch.equal(tensor, sae.state_dict()[name]), name
    metadata = json.loads((tmp_path / CONFIG_FILE).read_text())["metadata"]
    assert metadata["model_from_pretrained_kwargs"] == {"revision": "step512"}


def test_the_metadata_name_lm_revision_and_hook(tmp_path: Path, sae: SAE) -> None:
    cfg = json.loads((written(tmp_path, sae) / CONFIG_FILE).read_text())
    metadata = cfg.pop("metadata")
    assert cfg == {
        "architecture": "standard",
        "d_in": D_IN,
        "d_sae": D_SAE,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
    }
    assert metadata["model_name"] == "EleutherAI/pythia-70m"
    assert metadata["model_class_name"] == "HookedTransformer"
    assert metadata["hook_name"] == "blocks.4.hook_resid_pre"
    assert metadata["hook_head_index"] is None
    assert metadata["prepend_bos"] is True
    assert metadata["context_size"] == 128
    assert metadata["model_from_pretrained_kwargs"] == {
        "revision": "step512",
        "center_writing_weights": True,
    }
    assert metadata["saetrack"]["identity"] == "1f"
    assert metadata["saetrack"]["metrics"] == {"l0": 3.0}
    assert "/elsewhere" not in json.dumps(metadata), "places on this machine are nobody's business"


def test_an_exported_sae_comes_back(tmp_path: Path, sae: SAE, raw: torch.Tensor) -> None:
    foreign = read_saelens(written(tmp_path, sae))
    centred = raw - raw.mean(dim=-1, keepdim=True)
    with torch.no_grad():
        for x in (centred, raw):
            torch.testing.assert_close(
                foreign.sae.encode(x), sae.encode(centred), rtol=1e-5, atol=1e-5
            )
    torch.testing.assert_close(foreign.sae.W_dec, sae.W_dec)
    assert (foreign.residual_mean_distance, foreign.residual) == (2.5, "centred")
    assert foreign.feature_density is not None
    torch.testing.assert_close(foreign.feature_density, torch.linspace(0, 0.5, D_SAE))
    assert foreign.feature_density[0] == 0, "a dead feature stays dead"


def test_unknown_densities_are_absent_in_the_file(tmp_path: Path, sae: SAE) -> None:
    write_saelens(tmp_path, sae, cfg_of("raw"), None)
    assert not (tmp_path / SPARSITY_FILE).exists()
    assert read_saelens(tmp_path).feature_density is None


PEAK = """
import resource, sys
from pathlib import Path
from saetrack.registry.formats.saelens import read_saelens
def peak_bytes(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak_bytes()
read_saelens(Path(sys.argv[1]))
print(peak_bytes() - before)
"""


def test_an_import_takes_little_more_memory_than_the_weights(tmp_path: Path) -> None:
    sae = SAE(512, 32_768)
    foreign_folder(tmp_path, sae, {"apply_b_dec_to_input": False})
    weight_bytes = (tmp_path / WEIGHTS_FILE).stat().st_size
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    # As they are, and as pages of the file that were read, which the system may take back.
    assert int(done.stdout) < 2.9 * weight_bytes


def foreign_folder(folder: Path, sae: SAE, cfg: dict[str, Any], **tensors: torch.Tensor) -> Path:
    weights = {**sae.state_dict(), **tensors}
    save_file({n: t.contiguous() for n, t in weights.items()}, folder / WEIGHTS_FILE)
    shape = {"d_in": sae.d_in, "d_sae": sae.d_sae}
    (folder / CONFIG_FILE).write_text(json.dumps({**shape, **cfg}))
    return folder


@pytest.mark.parametrize("apply_b_dec_to_input", [True, False])
def test_what_others_trained_computes_the_same_here(
    tmp_path: Path, sae: SAE, raw: torch.Tensor, apply_b_dec_to_input: bool
) -> None:
    norms = torch.linspace(0.1, 3, D_SAE)
    norms[5] = 0
    cfg = {"architecture": "standard", "apply_b_dec_to_input": apply_b_dec_to_input}
    cfg["metadata"] = {"hook_name": "blocks.0.hook_resid_pre", "sae_lens_version": "6.0.0"}
    foreign_folder(tmp_path, sae, cfg, W_dec=sae.W_dec.detach() * norms[:, None])
    foreign = read_saelens(tmp_path)
    feature_acts, sae_out = theirs(tmp_path, raw)
    with torch.no_grad():
        here = foreign.sae.encode(raw)
        torch.testing.assert_close(foreign.sae.decode(here), sae_out.float(), rtol=1e-4, atol=1e-4)
    grown = feature_acts * torch.where(norms > 0, norms, 1.0)
    torch.testing.assert_close(here, grown.float(), rtol=1e-4, atol=1e-4)
    lengths = foreign.sae.W_dec.norm(dim=1)
    torch.testing.assert_close(lengths, (norms > 0).float(), rtol=1e-5, atol=1e-5)
    assert foreign.residual == "raw"
    assert foreign.residual_mean_distance == 0
    assert foreign.feature_density is None


def test_the_older_format_with_its_factors_is_read(
    tmp_path: Path, sae: SAE, raw: torch.Tensor
) -> None:
    cfg = {
        "activation_fn_str": "relu",
        "normalize_activations": None,
        "hook_name": "h",
        "model_name": "gpt2-small",
        "finetuning_scaling_factor": True,
    }
    factors = torch.linspace(0.5, 2, D_SAE)
    half = {name: tensor.half() for name, tensor in sae.state_dict().items()}
    foreign_folder(tmp_path, sae, cfg, **half, scaling_factor=factors)
    foreign = read_saelens(tmp_path)
    assert foreign.metadata["model_name"] == "gpt2-small"
    (tmp_path / CONFIG_FILE).write_text(json.dumps({"apply_b_dec_to_input": True}))
    feature_acts, _ = theirs(tmp_path, raw)
    sae_out = (feature_acts * factors) @ half["W_dec"].double() + half["b_dec"].double()
    with torch.no_grad():
        here = foreign.sae.decode(foreign.sae.encode(raw))
    torch.testing.assert_close(here, sae_out.float(), rtol=1e-4, atol=1e-4)


ONE_NAN = torch.zeros(D_SAE).index_fill(0, torch.tensor([7]), torch.nan)


@pytest.mark.parametrize(
    ("cfg", "tensors", "line"),
    [
        ({"architecture": "topk"}, {}, r"k=None must be a whole number above 0"),
        ({"architecture": "jumprelu"}, {}, r"threshold has shape None; cfg.json says \(96,\)"),
        ({"architecture": "gated"}, {}, r"architecture='gated': must be 'standard', 'topk', 'jump"),
        ({"activation_fn_str": "topk"}, {}, r"k=None must be a whole number above 0"),
        ({"normalize_activations": "layer_norm"}, {}, r"normalize_activations='layer_norm': must"),
        ({"normalize_activations": True}, {}, r"normalize_activations=True: must be 'none'"),
        ({"reshape_activations": "hook_z"}, {}, r"reshape_activations='hook_z': must be 'none'"),
        ({"d_in": 25}, {}, r"W_enc has shape \(24, 96\); cfg.json says \(25, 96\)"),
        ({}, {"b_enc": ONE_NAN}, r"b_enc holds values that are not finite"),
        ({}, {"threshold": torch.ones(D_SAE)}, r"threshold: unknown tensor; known: W_enc"),
        ({}, {"W_dec": torch.ones(3, 2)}, r"W_dec has shape \(3, 2\); cfg.json says \(96, 24\)"),
    ],
)
def test_what_computes_something_else_is_refused(
    tmp_path: Path, sae: SAE, cfg: dict[str, Any], tensors: dict[str, torch.Tensor], line: str
) -> None:
    foreign_folder(tmp_path, sae, cfg, **tensors)
    with pytest.raises(UserError, match=line) as caught:
        read_saelens(tmp_path)
    assert "\n" not in str(caught.value)


def remove_weights(folder: Path) -> None:
    (folder / WEIGHTS_FILE).unlink()
    torch.save({"W_enc": 1}, folder / "sae_weights.pt")


def pickle_instead(folder: Path) -> None:
    torch.save({"W_enc": 1}, folder / WEIGHTS_FILE)


def cut_weights(folder: Path) -> None:
    path = folder / WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (remove_weights, r"sae_weights.safetensors: no such file; weights in other formats"),
        (pickle_instead, r"sae_weights.safetensors: not a whole safetensors file"),
        (cut_weights, r"sae_weights.safetensors: not a whole safetensors file"),
        (lambda folder: (folder / CONFIG_FILE).unlink(), r"cfg.json: cannot be read \(No such"),
        (lambda folder: (folder / CONFIG_FILE).write_text("{"), r"cfg.json: cannot be read \(not"),
        (lambda folder: (folder / CONFIG_FILE).write_text("[]"), r"cfg.json: must hold a JSON obj"),
        (lambda folder: (folder / CONFIG_FILE).write_text("{}"), r"cfg.json says \(None, None\)"),
        (lambda folder: (folder / SPARSITY_FILE).write_text("x"), r"sparsity.safetensors: not a"),
    ],
)
def test_a_broken_folder_is_one_line(
    tmp_path: Path, sae: SAE, spoil: Callable[[Path], Any], line: str
) -> None:
    foreign_folder(tmp_path, sae, {})
    spoil(tmp_path)
    with pytest.raises(UserError, match=line) as caught:
        read_saelens(tmp_path)
    assert "\n" not in str(caught.value)


def test_positions_that_were_left_out_are_named_as_saelens_names_them(
    tmp_path: Path, sae: SAE
) -> None:
    track = cfg_of()["track"]
    track["corpus"] |= {"exclude_tokens": ["\n", 5], "exclude_first_positions": 4}
    cfg = cfg_of(track=track, excluded_token_ids=[5, 187])
    write_saelens(tmp_path, sae, cfg, torch.zeros(sae.d_sae))
    metadata = json.loads((tmp_path / CONFIG_FILE).read_text())["metadata"]
    assert metadata["exclude_special_tokens"] == [5, 187]
    assert metadata["seqpos_slice"] == [4, None]
    write_saelens(tmp_path, sae, cfg_of(), torch.zeros(sae.d_sae))
    metadata = json.loads((tmp_path / CONFIG_FILE).read_text())["metadata"]
    assert metadata["exclude_special_tokens"] is False and "seqpos_slice" not in metadata
