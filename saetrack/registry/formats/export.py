"""Out of the registry: a link as a SAELens folder, a chain as one hub repository of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from saetrack.registry import PulledLink, Registry
from saetrack.registry.formats.model_card import model_card
from saetrack.registry.formats.saelens import without_paths, write_saelens
from saetrack.utils.errors import UserError
from saetrack.utils.files import user_path, whole_folder

CARD_FILE = "README.md"


def export_link(link: PulledLink, to: Path) -> None:
    """Write one link as a SAELens folder, whole or not at all.

    Raises:
        UserError: the folder cannot be made, or holds something.
    """
    with _new_folder(to) as folder:
        write_saelens(folder, link.sae, link.cfg, link.feature_density)


def export_chain(registry: Registry, chain_name: str, to: Path) -> pd.DataFrame:
    """Write all registered links of a chain with a model card, whole or not at all.

    Args:
        registry: that holds the chain.
        chain_name: of the chain.
        to: becomes a repository that the hub takes as it is: `README.md`, and a SAELens folder per
            link.

    Returns:
        The chain's table with the `folder` of each link.

    Raises:
        UserError: the folder cannot be made, or holds something; a link's files are broken.
    """
    links = registry.links(chain_name)
    links["folder"] = _folder_names(links)
    with _new_folder(to) as repository:
        for name, version in zip(links["folder"], links["version"], strict=True):
            link = registry.pull(chain_name, version=version)
            folder = repository / name
            folder.mkdir()
            write_saelens(folder, link.sae, link.cfg, link.feature_density)
        track, _ = registry.track_of(chain_name)
        shown = {**link.cfg, "track": without_paths(track, link.cfg["lm"])}
        card = model_card(chain_name, shown, links)
        (repository / CARD_FILE).write_text(card)
    return links


def _folder_names(links: pd.DataFrame) -> list[str]:
    """After the LM's step; where several links have the same, after the link too."""
    is_alone = ~links["lm_step"].duplicated(keep=False)
    return [
        f"step{lm_step}" if alone else f"step{lm_step}-link{link}"
        for lm_step, link, alone in zip(links["lm_step"], links["link"], is_alone, strict=True)
    ]


@contextlib.contextmanager
def _new_folder(to: Path) -> Iterator[Path]:
    target = user_path(to).resolve()
    with contextlib.suppress(OSError):  # reported below
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise UserError(f"to='{to}': holds something already; name a new folder")
    try:
        with whole_folder(target) as draft:
            draft.chmod(0o755)  # made for its owner alone
            made = draft.stat().st_ino
            yield draft
        if target.stat().st_ino != made:
            raise UserError(f"to='{to}': something else was put there meanwhile")
    except OSError as error:
        raise UserError(f"to='{to}': cannot be written ({error.strerror})") from None
