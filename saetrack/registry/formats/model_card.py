"""The README.md of a chain's hub repository: what it holds, how to load it, how good it is."""

from __future__ import annotations

from typing import Any

import pandas as pd
import yaml

from saetrack.data.datasets import hub_repo
from saetrack.lm.catalog.models import find_model
from saetrack.utils.errors import UserError

COLUMNS = {
    "folder": ("folder", "`{}`"),
    "lm_step": ("LM step", "{:,}"),
    "tokens": ("training tokens", "{:,}"),
    "explained_variance": ("explained variance", "{:.4f}"),
    "l0": ("L0", "{:.1f}"),
    "dead": ("dead", "{:.1%}"),
    "ce_loss_recovered": ("CE loss recovered", "{:.4f}"),
    "nats_lost": ("nats lost", "{:.4f}"),
}

TEXT = """
# {chain}

A chain of {count} sparse autoencoders (SAEs) over the training of `{repo}`{unpublished}: one SAE
per training checkpoint on `{hook_name}` (d_in {d_in}, d_sae {d_sae:,}), each started from the
weights of the one before it, so that a feature keeps its index from checkpoint to checkpoint
(SAE-Track, [arXiv 2412.17626](https://arxiv.org/abs/2412.17626)). Made with saetrack.

## Loading

Every folder is an SAE of SAELens (`standard` architecture, release 6 or newer):

```python
from sae_lens import SAE

sae = SAE.load_from_disk("{folder}")  # or SAE.from_pretrained("<this repository>", "{folder}")
```

`cfg.metadata` names the LM, its revision and the hook. Load the LM as it says:

```python
from sae_lens.load_model import load_model

metadata = sae.cfg.metadata
lm = load_model(
    metadata.model_class_name,
    metadata.model_name,
    model_from_pretrained_kwargs=metadata.model_from_pretrained_kwargs,
)
_, cache = lm.run_with_cache(tokens, names_filter=metadata.hook_name)  # rows begin with BOS
feature_acts = sae.encode(cache[metadata.hook_name])
```

{residual}

Links are meant to be read together: row `i` of `W_dec` is the same feature in all of them, as far
as it stayed the same.

## Links

{links}

Metrics are on held-out tokens of `{dataset}` (rows of {context_size} tokens, BOS first). Dead:
fires on none of them. CE loss recovered: the SAE spliced into the LM, against zero ablation.
`sparsity.safetensors` holds the logarithm (base 10) of each feature's density.

## Training

```yaml
{track}```
"""

CENTRED = """\
The SAEs were trained on {stream} less its mean over `d_in`, which is what
TransformerLens gives with `center_writing_weights=True`, as the metadata asks. Features are the
same without it, since the encoder ignores that mean; but `sae_out` reconstructs what is
centred, so explained variance must be measured on that."""

RAW = "The SAEs were trained on {stream} as the LM has it, without any processing."


OUTPUTS = {
    "hook_attn_out": "the output of attention",
    "hook_mlp_out": "the output of the MLP",
}


def model_card(chain_name: str, cfg: dict[str, Any], links: pd.DataFrame) -> str:
    """The card, with the header that the hub reads.

    Args:
        chain_name: of the chain.
        cfg: `cfg.json` of one of its links, with the chain's own `track`.
        links: `Registry.links` with the `folder` of each.
    """
    track = cfg["track"]
    centred = track["residual"] == "centred"
    return _header(cfg) + TEXT.format(
        chain=chain_name,
        count=len(links),
        repo=cfg["repo"],
        unpublished="" if _is_on_the_hub(cfg["lm"]) else ", an LM that is on no hub",
        hook_name=cfg["hook_name"],
        d_in=cfg["d_in"],
        d_sae=cfg["d_sae"],
        folder=links["folder"].iloc[-1],
        residual=(CENTRED if centred else RAW).format(
            stream=OUTPUTS.get(cfg["hook_name"].rpartition(".")[2], "the residual stream")
        ),
        links=_table(links),
        dataset=track["corpus"]["dataset"],
        context_size=track["corpus"]["context_size"],
        track=yaml.safe_dump(track, sort_keys=False, default_flow_style=None),
    )


def _header(cfg: dict[str, Any]) -> str:
    """What of the chain is on the hub is named so that the hub links it."""
    header: dict[str, Any] = {
        "library_name": "saelens",
        "tags": ["sparse-autoencoder", "mechanistic-interpretability", "training-dynamics"],
    }
    if _is_on_the_hub(cfg["lm"]):
        header["base_model"] = cfg["repo"]
    if (repo := hub_repo(cfg["dataset"])) is not None:
        header["datasets"] = [repo]
    return f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n"


def _is_on_the_hub(lm_name: str) -> bool:
    try:
        return find_model(lm_name).repo is not None
    except UserError:  # a live folder's
        return False


def _table(links: pd.DataFrame) -> str:
    headings = [heading for heading, _ in COLUMNS.values()]
    lines = [headings, ["---"] * len(headings)]
    for _, row in links.iterrows():
        lines.append(
            [
                "-" if pd.isna(row[name]) else form.format(row[name])
                for name, (_, form) in COLUMNS.items()
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
