"""The training of an embedded LM on the text that every install carries."""

from __future__ import annotations

import itertools
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from saetrack.data.embedded import embedded_documents
from saetrack.data.packing import RowPacker
from saetrack.data.splits import split_of
from saetrack.data.tokenising import bos_of
from saetrack.lm.catalog.learning_rate import LearningRate
from saetrack.lm.catalog.models import ModelSpec
from saetrack.lm.embedded.allocation import keep_large_blocks
from saetrack.lm.embedded.model import new_model
from saetrack.lm.embedded.recipe import RECIPES, Recipe, learning_rate
from saetrack.utils.errors import UserError
from saetrack.utils.files import write_atomically
from saetrack.utils.progress import Progress

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    Trained = tuple[int, PreTrainedTokenizerFast, PreTrainedModel]  # the first: its lm_step

log = logging.getLogger(__name__)

END_OF_TEXT = "<|endoftext|>"
NO_TOKEN = -100


def train(spec: ModelSpec, state_path: Path) -> Iterator[Trained]:
    """Train an embedded LM; gives it at each of its checkpoints, by ascending step.

    An interrupted training goes on with the checkpoint that it gave last.

    Args:
        spec: of the LM.
        state_path: where the state is kept: it counts a checkpoint as done once the next one is
            asked for.
    """
    recipe = RECIPES[spec.name]
    training_texts = (text for text in embedded_documents() if split_of(text) == "train")
    texts = list(itertools.islice(training_texts, recipe.documents))
    tokenizer = train_tokenizer(texts, recipe.vocabulary)
    rows = _rows(texts, tokenizer, spec.max_context)
    tokens = f"{rows.numel():,}"
    log.info("training %s; the text has %s tokens, packages' documentation", spec.name, tokens)
    model = new_model(spec, recipe)
    training = _LMTraining(model, rows, recipe, learning_rate(spec))
    if state_path.exists():
        training.load(state_path)
    else:
        training.save(state_path)  # before any checkpoint: those beside a state are its own
    keep_large_blocks()
    progress = Progress(f"training {spec.name}", spec.lm_steps[-1] - training.lm_step, "steps")
    for lm_step in spec.lm_steps:
        if lm_step < training.lm_step:
            continue
        training.advance_to(lm_step, progress)
        yield lm_step, tokenizer, model
        training.save(state_path)


class _LMTraining:
    """AdamW with warm-up and cosine decay; the batch of a step is a function of seed and step."""

    def __init__(
        self,
        model: PreTrainedModel,
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
        loss = next_token_loss(self._model(batch).logits, batch)
        self._optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimiser.step()
        self.lm_step += 1
        return float(loss.detach())

    def _batch_rows(self) -> Int[Tensor, "batch"]:
        per_pass = len(self._rows) // self._recipe.batch_rows
        n_passes, index = divmod(self.lm_step, per_pass)
        shuffler = torch.Generator().manual_seed(self._recipe.seed + n_passes)
        order = torch.randperm(len(self._rows), generator=shuffler)
        return order[index * self._recipe.batch_rows :][: self._recipe.batch_rows]


def next_token_loss(
    logits: Float[Tensor, "rows context vocabulary"], tokens: Int[Tensor, "rows context"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy of each row's next tokens, of which its last token has none."""
    # To cut off the last token's logits would copy all the others.
    following = tokens.roll(-1, dims=1)
    following[:, -1] = NO_TOKEN
    return cross_entropy(logits.flatten(0, 1), following.flatten(), ignore_index=NO_TOKEN)


def train_tokenizer(texts: list[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of these texts."""
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
