"""What a registry gives is validated before any of it is used: a link's files, a track's paths.

Whoever can write to a registry can change a file together with the hash that vouches for it. So the
hash only finds accidents; the files themselves must be what a link's files are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from saetrack.data.config import EMBEDDED
from saetrack.data.datasets import hub_repo
from saetrack.lm.checkpoints.folder_layout import is_folder
from saetrack.registry.facts import current_names
from saetrack.sae.architectures import kind_of
from saetrack.sae.files import CONFIG_FILE, DENSITY_FILE, load_decoder, load_sae, load_tensors
from saetrack.utils.errors import UserError, one_line

if TYPE_CHECKING:
    from torch import Tensor

    from saetrack.chain.plan import Chain
    from saetrack.sae.model import SAE


class KnownFacts(BaseModel):
    """What is relied on of `cfg.json`; the rest is for people.

    Imported SAEs have `residual_mean_distance` only.
    """

    identity: str | None = None
    layer: Annotated[int, Field(ge=0)] | None = None
    hook_name: str | None = None
    residual_mean_distance: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Decoder(NamedTuple):
    """A link's feature directions, and how often each feature fires.

    Attributes:
        W_dec: decoder rows, of any length, (d_sae, d_in).
        feature_density: share of held-out tokens on which each feature fires, (d_sae,); 0 is dead.
    """

    W_dec: Tensor
    feature_density: Tensor


@dataclass(frozen=True)
class PulledLink:
    """A registered link, verified against its hash.

    Attributes:
        sae: the weights.
        cfg: all that is known about them (`cfg.json`).
        feature_density: share of held-out tokens on which each feature fires, (d_sae,).
        version: in its chain's registered model.
    """

    sae: SAE
    cfg: dict[str, Any]
    feature_density: Tensor
    version: int


@dataclass(frozen=True)
class ReceivedLink:
    """A link's files, read.

    Attributes:
        sae: the weights.
        cfg: `cfg.json`, for people; what release 0.1 wrote has the names of this release.
        facts: what of it is relied on.
        feature_density: share of held-out tokens on which each feature fires, (d_sae,); None where
            it is unknown, as of an imported SAE that came without.
    """

    sae: SAE
    cfg: dict[str, Any]
    facts: KnownFacts
    feature_density: Tensor | None


def read_link(folder: Path, tags: dict[str, str]) -> ReceivedLink:
    """Read a link's files.

    Args:
        folder: holds them, and has the version's hash.
        tags: of the version that they belong to; `identity` is compared.

    Raises:
        ValueError: in one line that names the file: it is not what a link's must be.
    """
    sae, cfg = load_sae(folder)
    cfg = _with_current_names(cfg)
    facts = _facts(cfg, tags)
    return ReceivedLink(sae, cfg, facts, _feature_density(folder, sae.d_sae))


def read_decoder(folder: Path) -> Decoder:
    """Read of a link's files what drift is measured on: half of the bytes that `read_link` reads.

    Raises:
        ValueError: as `read_link`.
    """
    W_dec = load_decoder(folder)
    density = _feature_density(folder, len(W_dec))
    if density is None:
        raise ValueError(f"lacks {DENSITY_FILE}")
    return Decoder(W_dec, density)


def require_kind(found: ReceivedLink, chain: Chain, name: str) -> None:
    """Check that a link can be the parent of one of a chain.

    Raises:
        UserError: it is of another kind, size or hook; imported SAEs have no hook.
    """
    kind = found.sae.settings()
    for field, value, expected in (
        *(
            (setting, kind.get(setting), value)
            for setting, value in kind_of(chain.config.sae).items()
        ),
        ("d_sae", found.sae.d_sae, chain.config.d_sae),
        ("layer", found.facts.layer, chain.layer),
        ("hook_name", found.facts.hook_name, chain.hook_name),
    ):
        if value not in (expected, None):
            raise UserError(f"{name}: cfg.json: {field}={value} must be the chain's, {expected}")


def _feature_density(folder: Path, d_sae: int) -> Tensor | None:
    path = folder / DENSITY_FILE
    if not path.exists():
        return None
    density = load_tensors(path, {"feature_density": (d_sae,)})["feature_density"]
    if not 0 <= density.min() <= density.max() <= 1:
        raise ValueError(f"{DENSITY_FILE}: feature_density must lie between 0 and 1")
    return density


def _with_current_names(cfg: dict[str, Any]) -> dict[str, Any]:
    renamed = current_names(cfg)
    if isinstance(track := renamed.get("track"), dict):
        renamed["track"] = current_names(track)
    return renamed


def _facts(cfg: dict[str, Any], tags: dict[str, str]) -> KnownFacts:
    try:
        facts = KnownFacts.model_validate(cfg, strict=True)
    except ValidationError as error:
        raise ValueError(f"{CONFIG_FILE}: {one_line(error)}") from None
    if facts.identity not in (tags.get("identity"), None):
        raise ValueError(f"{CONFIG_FILE}: is of another link (identity)")
    return facts


def model_and_dataset(track: dict[str, Any]) -> tuple[Any, Any]:
    """What of a registered track's parameters may be a path."""
    corpus = track.get("corpus")
    return track.get("model"), corpus.get("dataset") if isinstance(corpus, dict) else None


def require_no_paths(track: dict[str, Any]) -> None:
    """Refuse a registered track that reads folders of this machine: only its user may name them.

    Raises:
        UserError: its model or its corpus is a path.
    """
    model, dataset = model_and_dataset(track)
    if not isinstance(model, str) or is_folder(model):
        raise UserError(f"model={model!r}: only the machine that registered it may name a folder")
    if dataset != EMBEDDED and (not isinstance(dataset, str) or hub_repo(dataset) is None):
        raise UserError(
            f"corpus.dataset={dataset!r}: only the machine that registered it may name a path"
        )
