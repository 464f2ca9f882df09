"""Life stores of analyses: read where they are on this machine, or downloaded once and kept."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from saetrack.registry.artifacts import folder_here
from saetrack.utils.errors import UserError, first_line
from saetrack.utils.files import content_hash, whole_folder

# Folders of an analysis' artifacts: its life store, and that of random directions, a control, which
# is no chain and has none of its own.
LIVES, DIRECTION_LIVES = "lives", "direction_lives"


def lives_in_place(
    client: MlflowClient, run_id: str, chain_name: str, cache_dir: Path, store: str = LIVES
) -> Path | None:
    """A life store of an analysis; None if it has none.

    Of a chain the store that was downloaded last is kept, earlier ones go.

    Args:
        client: of the registry.
        run_id: of the analysis.
        chain_name: that was analysed.
        cache_dir: where downloads are kept.
        store: `LIVES` or `DIRECTION_LIVES`.

    Raises:
        UserError: its files cannot be had.
    """
    if not re.fullmatch("[0-9a-f]{32}", run_id):  # it names a folder
        raise UserError(f"chain={chain_name!r}: run_id={run_id[:80]!r} of its analysis is no id")
    try:
        uri = client.get_run(run_id).info.artifact_uri
        here = folder_here(uri, f"chain={chain_name!r}: files of its analysis")
        if here is None:
            folder = _downloaded(
                client, run_id, cache_dir / store / content_hash(chain_name)[:32], store
            )
        else:
            folder = here / store
    except (MlflowException, OSError) as error:
        raise UserError(
            f"chain={chain_name!r}: the life store of its analysis cannot be had: "
            f"{first_line(error)}"
        ) from None
    return folder if folder.is_dir() else None


def _downloaded(client: MlflowClient, run_id: str, of_chain: Path, store: str) -> Path:
    kept = of_chain / run_id
    if not kept.exists():
        listed = {file.path for file in client.list_artifacts(run_id)}
        if store not in listed:
            return kept / store
        with whole_folder(kept) as draft:
            client.download_artifacts(run_id, store, dst_path=str(draft))
        for earlier in of_chain.iterdir():
            # Drafts of other processes stay.
            if earlier != kept and not earlier.name.startswith("."):
                shutil.rmtree(earlier, ignore_errors=True)
    return kept / store
