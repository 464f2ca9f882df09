"""Where checkpoints of an embedded LM go: beside fetched ones, or into a folder to follow."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from saetrack.lm.catalog.models import ModelSpec
from saetrack.lm.checkpoints import store
from saetrack.lm.checkpoints.checkpoint_files import is_whole
from saetrack.lm.checkpoints.folder_layout import checkpoint_folders
from saetrack.lm.embedded.recipe import recipe_key
from saetrack.lm.embedded.training import train
from saetrack.utils.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

log = logging.getLogger(__name__)


def ensure_built(spec: ModelSpec, cache: Path) -> str:
    """The repository name of an embedded LM, trained and published first if the cache lacks it.

    Its checkpoints lie where fetched ones do, so that the code that loads Pythia loads it too. An
    interrupted training goes on from its last published checkpoint.
    """
    repo = f"saetrack/{spec.name}-{recipe_key(spec)}"
    if store.commit_of(cache, repo, store.TOKENIZER_REVISION) is not None:
        return repo
    state_path = cache / "embedded" / f"{spec.name}-{recipe_key(spec)}.training.pt"
    files: dict[str, bytes] = {}
    for lm_step, tokenizer, model in train(spec, state_path):
        with tempfile.TemporaryDirectory() as name:
            _save(Path(name), tokenizer, model)
            files = {file.name: file.read_bytes() for file in Path(name).iterdir()}
        store.publish(cache, repo, f"step{lm_step}", files)
    # The last one again, with its tokenizer: this name says that all of them are there.
    store.publish(cache, repo, store.TOKENIZER_REVISION, files)
    state_path.unlink(missing_ok=True)  # another process may have been as fast
    return repo


def train_into_folder(spec: ModelSpec, folder: Path) -> None:
    """Train an embedded LM into a folder, as any training run writes its checkpoints.

    An interrupted training goes on; a finished one is left alone.

    Raises:
        UserError: the folder holds checkpoints of another training run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state_path = folder / f"{spec.name}-{recipe_key(spec)}.training.pt"
    if checkpoint_folders(folder) and not state_path.exists():
        raise UserError(
            f"FOLDER='{folder}': holds checkpoints of another training run; name an empty folder"
        )
    for lm_step, tokenizer, model in train(spec, state_path):
        path = folder / f"checkpoint-{lm_step}"
        if not is_whole(path):
            shutil.rmtree(path, ignore_errors=True)  # what a kill has left of it
            _save(path, tokenizer, model)
            log.info("wrote %s", path.name)
    log.info("%s holds all %d checkpoints", folder, len(spec.lm_steps))


def _save(folder: Path, tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel) -> None:
    """Write what a checkpoint consists of; the weights last, which make it whole."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
