"""A folder as a source of checkpoints; a training run may still be writing it."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saetrack.lm.catalog.models import Checkpoint, ModelSpec
from saetrack.lm.checkpoints.checkpoint_files import (
    NotWholeError,
    cannot_be_read,
    whole_files,
)
from saetrack.lm.checkpoints.files import TOKENIZER_FILES
from saetrack.lm.checkpoints.folder_layout import (
    BROKEN_AFTER_S,
    may_become_whole,
    whole_checkpoints,
)
from saetrack.lm.checkpoints.ledger import Look, look, peek
from saetrack.lm.checkpoints.seen import Seen, stats_of
from saetrack.lm.checkpoints.shape import UNKNOWN_SHAPE, Shape, shape_of
from saetrack.lm.checkpoints.subfolders import STEP_NAME
from saetrack.utils.errors import UserError, first_line
from saetrack.utils.files import content_hash, file_sha256
from saetrack.utils.progress import duration

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from saetrack.lm.checkpoints.source import CheckpointSource

log = logging.getLogger(__name__)

POLL_S = 1.0
# That a look ahead reads of checkpoints whose content is not known: seconds.
PEEKED_BYTES = 4e9

# Without one of these a folder holds no tokenizer.
VOCABULARY_FILES = {"tokenizer.json", "tokenizer.model", "vocab.json"}

# A tokenizer is written file by file, after the weights: it is read when no file has changed for so
# long. If this machine's clock is wrong, it is read after SETTLING_LOOKS waits all the same.
SETTLED_S = 1.0
SETTLING_LOOKS = 15


@dataclass(frozen=True)
class FolderSource:
    """The checkpoints of a folder at one time; `open_folder` gives them anew.

    A commit is a hash of a checkpoint's files, so no link changes when the folder moves.

    Attributes:
        checkpoints: all that were ever seen whole, those that are gone by now among them.
        left_out: name and reason of what looks like a model and is none of them.
        lines: the same for people, with what is waited for.
    """

    spec: ModelSpec
    folder: Path
    ledger_path: Path
    checkpoints: tuple[Seen, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    @property
    def repo(self) -> str:
        """Names the LM where a hub's would name its repository; without the path."""
        return f"folder/{self.spec.name}"

    @property
    def lm_identity(self) -> str:
        """The content of the first checkpoint that was ever seen in it; empty while there is none.

        So two LMs in folders of one name differ, and a folder that was moved or copied stays the
        same LM. The first checkpoint may have been deleted since: the ledger in the cache keeps its
        hash, and goes with a folder that moves on this machine (`saetrack.lm.checkpoints.moved`).
        """
        return self.checkpoints[0].commit if self.checkpoints else ""

    def weight_digests(self, checkpoint: Checkpoint) -> Mapping[str, str]:
        """Hashes of the files that hold its weights, by name; none if they are not known."""
        return self.checkpoints[checkpoint.checkpoint_index].weights

    def resolve(self, checkpoint_indices: list[int]) -> list[Checkpoint]:
        """Checkpoints with the commits that their content has."""
        chosen = [(index, self.checkpoints[index]) for index in checkpoint_indices]
        return [
            Checkpoint(
                *(index, seen.lm_step, self.repo, self._name_of(seen), seen.commit),
                notes=self._notes_before(index),
            )
            for index, seen in chosen
        ]

    def require_one_width(self, layers: Sequence[int]) -> None:
        """Check that the checkpoints that are there are of one LM, in which every layer exists.

        Raises:
            UserError: the widths differ, or one has no such layer.
        """
        there = [seen for seen in self.checkpoints if (self.folder / seen.name).exists()]
        _require_one_width(self.repo, {seen.name: seen.shape for seen in there}, layers)

    def _notes_before(self, index: int) -> tuple[str, ...]:
        """What is known to be missing between a checkpoint and the one before it."""
        seen = self.checkpoints[index]
        before = self.checkpoints[index - 1] if index else None
        notes = [
            f"{name} {reason}, and is left out"
            for name, reason in self.left_out.items()
            if (name_of := STEP_NAME.fullmatch(name)) is not None
            and (before.lm_step if before else -1) < int(name_of[1]) < seen.lm_step
        ]
        every = before.save_steps if before else 0
        if before and every and before.lm_step % every == 0:
            n_missing = (seen.lm_step - 1) // every - before.lm_step // every - len(notes)
            if n_missing > 0:
                notes.append(
                    f"between LM steps {before.lm_step} and {seen.lm_step} checkpoints were "
                    f"deleted before they were seen: {n_missing} (save_steps={every})"
                )
        return tuple(notes)

    def fetch(self, checkpoint: Checkpoint) -> Path:
        """The folder of a checkpoint, if it still is what it was.

        Raises:
            UserError: the training run has deleted or overwritten it.
        """
        seen = self.checkpoints[checkpoint.checkpoint_index]
        path = self.folder / seen.name
        try:
            stats = stats_of(path, seen.files)
        except FileNotFoundError:
            raise UserError(
                f"model: {self.repo} has lost {seen.name} before it was tracked; run again to go "
                "on without it, and let the training run keep more checkpoints (save_total_limit)"
            ) from None
        if stats != seen.files:
            if reason := _why_broken(path):
                raise UserError(
                    f"model: {self.repo}: {seen.name} was whole before, and {reason}; restore it, "
                    f"or run again {duration(BROKEN_AFTER_S)} after its last change to go on "
                    "without it"
                )
            raise UserError(
                f"model: {self.repo} had {seen.name} overwritten since this track was planned; "
                "run again to track the new one"
            )
        return path

    def tokenizer(self) -> tuple[PreTrainedTokenizerFast, str]:
        """The LM's tokenizer, and a hash that names its exact content.

        It is that of the newest checkpoint that has one, else that in the folder itself.

        Raises:
            UserError: there is none, or none that can be read.
        """
        newest_first = [self.folder / seen.name for seen in reversed(self.checkpoints)]
        return _tokenizer_in(self.repo, [*newest_first, self.folder])

    def wait_for_more(self, known: int, patience_s: float) -> bool:
        """Wait until the folder has had more than `known` whole checkpoints.

        Returns:
            Whether it has, rather than patience having run out.
        """
        give_up_s = time.monotonic() + patience_s
        is_logged = False
        while True:
            found = look(self.folder, self.ledger_path)
            if len(found.checkpoints) > known:
                return True
            left_s = give_up_s - time.monotonic()
            if left_s <= 0:
                if found.is_waiting:
                    log.warning("%s: %s %s", self.repo, *list(found.left_out.items())[-1])
                return False
            if not is_logged:
                is_logged = True
                log.info("%s: waiting %s for a checkpoint", self.repo, duration(patience_s))
            time.sleep(min(POLL_S, left_s))

    def _name_of(self, seen: Seen) -> str:
        return self.folder.name if seen.name == "." else seen.name


def is_lost(source: CheckpointSource, checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint was deleted or broken since it was seen; only folders lose any."""
    return why_lost(source, checkpoint) is not None


def why_lost(source: CheckpointSource, checkpoint: Checkpoint) -> str | None:
    """What has become of a checkpoint that was whole, as a line goes on from its name.

    Of one that may just be written anew, nothing.
    """
    if not isinstance(source, FolderSource):
        return None
    seen = source.checkpoints[checkpoint.checkpoint_index]
    path = source.folder / seen.name
    try:
        if stats_of(path, seen.files) == seen.files:
            return None
    except FileNotFoundError:
        return "was deleted before it was tracked"
    except OSError as error:
        return cannot_be_read(error)
    return _why_broken(path, waits=True)


def _why_broken(path: Path, *, waits: bool = False) -> str | None:
    """Why a checkpoint is not whole; nothing of one that is, or may be soon if that is waited for.

    It goes on from the checkpoint's name.
    """
    try:
        whole_files(path)
    except (NotWholeError, OSError) as error:
        if waits and may_become_whole(path, error):
            return None
        return cannot_be_read(error) if isinstance(error, OSError) else str(error)
    return None


def open_folder(spec: ModelSpec, cache_dir: Path) -> FolderSource:
    """Look into a folder.

    Args:
        spec: from `folder_spec`. The source's own spec also has the checkpoints that were seen once
            and that the training run has deleted since.
        cache_dir: where ledgers are kept.

    Raises:
        UserError: the folder is gone.
    """
    assert spec.folder is not None
    ledger_path = _ledger_of(spec.folder, cache_dir)
    found = look(spec.folder, ledger_path)
    source = _source(spec, ledger_path, found)
    for number, line in enumerate(source.lines, start=1):
        # Of one in the midst of being written `wait_for_more` warns when it gives up.
        is_waited_for = found.is_waiting and number == len(source.lines)
        log.log(logging.INFO if is_waited_for else logging.WARNING, "%s: %s", source.repo, line)
    return source


def peek_into_folder(spec: ModelSpec, cache_dir: Path) -> FolderSource:
    """What `open_folder` would give, but for commits for which much would have to be read.

    Nothing of it is kept, or logged.

    Raises:
        UserError: the folder is gone.
    """
    assert spec.folder is not None
    ledger_path = _ledger_of(spec.folder, cache_dir)
    return _source(spec, ledger_path, peek(spec.folder, ledger_path, PEEKED_BYTES))


def _ledger_of(folder: Path, cache_dir: Path) -> Path:
    return cache_dir / "live" / f"{content_hash(str(folder))[:16]}.json"


def _source(spec: ModelSpec, ledger_path: Path, found: Look) -> FolderSource:
    folder = spec.folder
    assert folder is not None
    lm_steps = tuple(seen.lm_step for seen in found.checkpoints)
    shape = found.checkpoints[-1].shape if found.checkpoints else UNKNOWN_SHAPE
    spec = replace(spec, lm_steps=lm_steps, **asdict(shape))
    of_found = (found.checkpoints, found.left_out, tuple(found.lines()))
    return FolderSource(spec, folder, ledger_path, *of_found)


def check_folder(spec: ModelSpec, layers: Sequence[int]) -> tuple[PreTrainedTokenizerFast, str]:
    """What `open_folder` and the source that it gives would refuse; reads no weights.

    Returns:
        The tokenizer, and a hash that names its exact content.

    Raises:
        UserError: checkpoints are of different LMs, or there is no tokenizer.
    """
    assert spec.folder is not None
    name = f"folder/{spec.name}"
    whole, _ = whole_checkpoints(spec.folder)
    _require_one_width(name, {path.name: shape_of(path) for path in whole.values()}, layers)
    return _tokenizer_in(name, [*reversed(whole.values()), spec.folder])


def _require_one_width(name: str, shapes: dict[str, Shape], layers: Sequence[int]) -> None:
    last = list(shapes)[-1]
    for checkpoint, shape in shapes.items():
        if shape.d_model != shapes[last].d_model or max(layers) >= shape.n_layers:
            raise UserError(
                f"model: {name}: {checkpoint} has {shape.n_layers} blocks of width "
                f"{shape.d_model}, {last} has {shapes[last].n_layers} of width "
                f"{shapes[last].d_model}; a chain over layer {max(layers)} needs that layer and "
                "one width at every checkpoint: move those that are not this LM's away"
            )


def _tokenizer_in(name: str, folders: Sequence[Path]) -> tuple[PreTrainedTokenizerFast, str]:
    """The tokenizer of the first folder that holds one."""
    for path in folders:
        if _tokenizer_files(path):
            return _load_tokenizer(path)
    raise UserError(
        f"model: {name} holds no tokenizer; save it into the folder (tokenizer.save_pretrained)"
    )


def _tokenizer_files(folder: Path) -> list[Path]:
    """The files of a tokenizer, sorted; none unless a vocabulary is among them."""
    found = {path for pattern in TOKENIZER_FILES for path in folder.glob(pattern)}
    has_vocabulary = bool({path.name for path in found} & VOCABULARY_FILES)
    return sorted(found) if has_vocabulary else []


def _load_tokenizer(folder: Path) -> tuple[PreTrainedTokenizerFast, str]:
    from transformers import AutoTokenizer

    for _ in range(SETTLING_LOOKS):
        touched_s = max(path.stat().st_mtime for path in _tokenizer_files(folder))
        if time.time() - touched_s >= SETTLED_S:
            break
        time.sleep(SETTLED_S / 10)
    try:
        # From a copy, so that what is loaded is what was hashed.
        with tempfile.TemporaryDirectory() as copy:
            names = [shutil.copy(path, copy) for path in _tokenizer_files(folder)]
            content = {Path(name).name: file_sha256(Path(name)) for name in names}
            if (folder / "config.json").exists():  # names the class where the tokenizer does not
                shutil.copy(folder / "config.json", copy)
            tokenizer: Any = AutoTokenizer.from_pretrained(copy, trust_remote_code=False)
    except Exception as error:
        raise UserError(
            f"model: the tokenizer in {folder.name} cannot be read: {first_line(error)}"
        ) from None
    return tokenizer, content_hash(content)[:40]
