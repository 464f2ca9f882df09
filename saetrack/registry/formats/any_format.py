"""An SAE from a folder of whichever project: the files that it holds say which one wrote it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from saetrack.registry.formats import dictionary_learning, sparsify
from saetrack.registry.formats.foreign import ForeignSAE
from saetrack.registry.formats.saelens import read_saelens
from saetrack.sae.files import CONFIG_FILE, WEIGHTS_FILE
from saetrack.utils.errors import UserError

READERS: dict[str, Callable[[Path], ForeignSAE]] = {
    dictionary_learning.WEIGHTS_FILE: dictionary_learning.read_dictionary,
    sparsify.WEIGHTS_FILE: sparsify.read_sparsify,
    WEIGHTS_FILE: read_saelens,
}
TAKEN = (
    f"taken are the folders of SAELens ({CONFIG_FILE}, {WEIGHTS_FILE}), sparsify ({CONFIG_FILE}, "
    f"{sparsify.WEIGHTS_FILE}) and dictionary_learning ({dictionary_learning.CONFIG_FILE}, "
    f"{dictionary_learning.WEIGHTS_FILE})"
)
MAX_FOLDERS = 4


def read_foreign(folder: Path) -> ForeignSAE:
    """Read the SAE in a folder that SAELens, sparsify or dictionary_learning wrote.

    Raises:
        UserError: it holds none or several, a file is broken, or the SAE computes what ours cannot.
    """
    found = [name for name in READERS if (folder / name).is_file()]
    if len(found) == 1:
        return READERS[found[0]](folder)
    if found:
        raise UserError(f"{folder}: holds several SAEs, {' and '.join(found)}; keep one of them")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; {TAKEN}")
    below = sorted({path.parent.name for name in READERS for path in folder.glob(f"*/{name}")})
    if below:
        more = f", and {len(below) - MAX_FOLDERS} more" if len(below) > MAX_FOLDERS else ""
        raise UserError(
            f"{folder}: holds folders of SAEs ({', '.join(below[:MAX_FOLDERS])}{more}); name one"
        )
    raise UserError(f"{folder}: holds no SAE of a known format; {TAKEN}")
