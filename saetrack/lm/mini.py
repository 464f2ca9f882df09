"""The embedded mini-LM: a small GPT-NeoX trained here, published like a hub repository.

Text, tokenizer and weights come from this machine alone. Checkpoints are written in the hub's cache
layout, one revision each, so that the embedded default exercises the code that loads Pythia; or
into a folder that a track can follow: `python -m saetrack.lm.mini FOLDER`.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import math
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch.nn.functional import cross_entropy

from saetrack.data.corpus import RowPacker, bos_of
from saetrack.data.documents import embedded_documents, embedded_text_version, split_of
from saetrack.lm.catalog.learning_rate import LearningRate
from saetrack.lm.catalog.models import ModelSpec, find_model
from saetrack.lm.checkpoints import hub
from saetrack.lm.checkpoints.folder_layout import checkpoint_folders, is_whole
from saetrack.utils.errors import UserError
from saetrack.utils.files import content_hash, write_atomically
from saetrack.utils.progress import Progress

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor
    from transformers import GPTNeoXForCausalLM, PreTrainedTokenizerFast

    Trained = tuple[PreTrainedTokenizerFast, GPTNeoXForCausalLM]
    Publish = Callable[[int, PreTrainedTokenizerFast, GPTNeoXForCausalLM], None]  # of an LM's step

log = logging.getLogger(__name__)

RECIPE_VERSION = 1
END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class Recipe:
    """How an embedded LM is made, beyond its `ModelSpec`. Ends at the last checkpoint's step."""

    n_heads: int
    vocabulary: int
    documents: int | None  # None: all of them
    batch_rows: int
    learning_rate: float
    warmup_lm_steps: int
    seed: int = 0


RECIPES = {
    # A long warm-up spreads the early change over more checkpoints.
    "mini": Recipe(4, 4096, None, batch_rows=8, learning_rate=4e-3, warmup_lm_steps=384),
    "nano": Recipe(2, 512, 1200, batch_rows=8, learning_rate=1e-2, warmup_lm_steps=4),
}


def ensure_built(spec: ModelSpec, cache: Path) -> str:
    """The repository name of an embedded LM, trained and published first if the cache lacks it.

    An interrupted training goes on from its last published checkpoint.
    """
    repo = f"saetrack/{spec.name}-{_key(spec)}"
    if hub.is_published(cache, repo, "main"):
        return repo

    def publish(revision: str, *trained: Any) -> None:
        with tempfile.TemporaryDirectory() as name:
            _save(Path(name), *trained)
            files = {file.name: file.read_bytes() for file in Path(name).iterdir()}
        hub.publish(cache, repo, revision, files)

    state_path = cache / f"{repo.replace('/', '--')}.training.pt"
    trained = _train(spec, state_path, lambda step, *now: publish(f"step{step}", *now))
    publish("main", *trained)  # last: it says that all are there
    state_path.unlink(missing_ok=True)  # another process may have been as fast
    return repo


def write_live(spec: ModelSpec, folder: Path) -> None:
    """Train an embedded LM into a folder, as a stranger's training run writes its checkpoints.

    An interrupted training goes on; a finished one is left alone.

    Raises:
        UserError: the folder holds checkpoints of another training run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state_path = folder / f"{spec.name}-{_key(spec)}.training.pt"
    if checkpoint_folders(folder) and not state_path.exists():
        raise UserError(
            f"FOLDER='{folder}': holds checkpoints of another training run; name an empty folder"
        )

    def publish(lm_step: int, *trained: Any) -> None:
        path = folder / f"checkpoint-{lm_step}"
        if not is_whole(path):
            shutil.rmtree(path, ignore_errors=True)  # what a kill has left of it
            _save(path, *trained)
            log.info("wrote %s", path.name)

    _train(spec, state_path, publish)
    log.info("%s holds all %d checkpoints", folder, len(spec.lm_steps))


def learning_rate(spec: ModelSpec) -> LearningRate:
    """By which an embedded LM is trained."""
    recipe = RECIPES[spec.name]
    return LearningRate(recipe.learning_rate, recipe.warmup_lm_steps, spec.lm_steps[-1])


def _key(spec: ModelSpec) -> str:
    """Names an embedded LM by all that determines its weights."""
    told = ("name", "repo", "revision_pattern", "lm_steps", "n_layers", "d_model", "max_context")
    made_of = {field: getattr(spec, field) for field in told}
    recipe = asdict(RECIPES[spec.name])
    return content_hash(
        [RECIPE_VERSION, made_of, recipe, embedded_text_version(), torch.__version__]
    )[:8]


def _train(spec: ModelSpec, state_path: Path, publish: Publish) -> Trained:
    """Train from the first missing checkpoint on, publishing each."""
    recipe = RECIPES[spec.name]
    training_texts = (text for text in embedded_documents() if split_of(text) == "train")
    texts = list(itertools.islice(training_texts, recipe.documents))
    tokenizer = _train_tokenizer(texts, recipe.vocabulary)
    rows = _rows(texts, tokenizer, spec.max_context)
    tokens = f"{rows.numel():,}"
    log.info("training %s on %s tokens of text from this Python's library", spec.name, tokens)
    model = _new_model(spec, recipe)
    training = _LMTraining(model, rows, recipe, learning_rate(spec))
    if state_path.exists():
        training.load(state_path)
    else:
        training.save(state_path)  # before any checkpoint: those beside a state are its own
    progress = Progress(f"training {spec.name}", spec.lm_steps[-1] - training.lm_step, "steps")
    for lm_step in spec.lm_steps:
        if lm_step < training.lm_step:
            continue
        training.advance_to(lm_step, progress)
        publish(lm_step, tokenizer, model)
        training.save(state_path)
    return tokenizer, model


class _LMTraining:
    """AdamW with warm-up and cosine decay; the batch of a step is a function of seed and step."""

    def __init__(
        self,
        model: GPTNeoXForCausalLM,
        rows: Int[Tensor, "rows context"],
        recipe: Recipe,
        learning_rate: LearningRate,
    ) -> None:
        self.lm_step = 0
        self._model = model
        self._rows = rows
        self._recipe = recipe
        self._learning_rate = learning_rate
        self._optimiser = torch.optim.AdamW(
            model.parameters(), lr=1.0, betas=(0.9, 0.95), weight_decay=0.1
        )

    def advance_to(self, lm_step: int, progress: Progress) -> None:
        while self.lm_step < lm_step:
            loss = self._step()
            progress.advance(1, f"loss {loss:.2f}")

    def save(self, path: Path) -> None:
        state = {
            "lm_step": self.lm_step,
            "model": self._model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }
        with tempfile.TemporaryFile() as file:
            torch.save(state, file)
            file.seek(0)
            write_atomically(path, file.read())

    def load(self, path: Path) -> None:
        try:
            state = torch.load(path, weights_only=True)
        except (RuntimeError, EOFError, UnpicklingError):
            raise UserError(
                f"{path}: not a state of the LM's training; delete it and run again"
            ) from None
        self.lm_step = state["lm_step"]
        self._model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        log.info("going on with the LM's training at step %d", self.lm_step)

    def _step(self) -> float:
        for group in self._optimiser.param_groups:
            group["lr"] = self._learning_rate.at(self.lm_step)
        batch = self._rows[self._batch_rows()]
        logits = self._model(batch).logits
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten())
        self._optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimiser.step()
        self.lm_step += 1
        return float(loss.detach())

    def _batch_rows(self) -> Int[Tensor, "batch"]:
        per_pass = len(self._rows) // self._recipe.batch_rows
        a_pass, place = divmod(self.lm_step, per_pass)
        shuffler = torch.Generator().manual_seed(self._recipe.seed + a_pass)
        order = torch.randperm(len(self._rows), generator=shuffler)
        return order[place * self._recipe.batch_rows :][: self._recipe.batch_rows]


def _train_tokenizer(texts: list[str], vocabulary: int) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT
    )


def _rows(
    texts: list[str], tokenizer: PreTrainedTokenizerFast, context_size: int
) -> Int[Tensor, "rows context"]:
    packer = RowPacker(context_size, bos_of(tokenizer))
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return torch.tensor([row for document in encoded for row in packer.add(document)])


def _new_model(spec: ModelSpec, recipe: Recipe) -> GPTNeoXForCausalLM:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(recipe.seed)
    model = GPTNeoXForCausalLM(  # rotary 25 % and untied embeddings are its defaults
        GPTNeoXConfig(
            vocab_size=recipe.vocabulary,
            hidden_size=spec.d_model,
            num_hidden_layers=spec.n_layers,
            num_attention_heads=recipe.n_heads,
            intermediate_size=4 * spec.d_model,
            max_position_embeddings=spec.max_context,
            initializer_range=math.sqrt(2 / (5 * spec.d_model)),
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    # As in Pythia: what writes into the residual stream starts smaller, by depth.
    for name, weight in model.named_parameters():
        if name.endswith(("attention.dense.weight", "dense_4h_to_h.weight")):
            torch.nn.init.normal_(weight, std=2 / (spec.n_layers * math.sqrt(spec.d_model)))
    return model


def _save(folder: Path, tokenizer: PreTrainedTokenizerFast, model: GPTNeoXForCausalLM) -> None:
    """Write what a checkpoint consists of; the weights last, which make it whole."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def main(arguments: list[str]) -> int:
    """Train an embedded LM into a folder that a track can follow; the exit status."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    parser = _Parser(prog="python -m saetrack.lm.mini", description=main.__doc__)
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    parser.add_argument("--model", choices=list(RECIPES), default="mini")
    try:
        chosen = parser.parse_args(arguments)
        write_live(find_model(chosen.model), chosen.folder)
    except (UserError, OSError) as error:
        log.error("error: %s", error)  # noqa: TRY400  (a traceback is not for the user)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
