"""An LM of a folder that continues a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from saetrack.lm.loading import CANNOT_LOAD
from saetrack.utils.errors import UserError, first_line
from saetrack.utils.files import content_hash, file_sha256, user_path

if TYPE_CHECKING:
    from collections.abc import Mapping

WEIGHTS = "*.safetensors"


class Said(NamedTuple):
    """What an LM said, and the tokens of what it was asked and of what it said."""

    text: str
    tokens_in: int
    tokens_out: int


class ChatLM:
    """An LM with its tokenizer, on one device; the likeliest token each time.

    Attributes:
        name: of the folder.
        sha256: of its weights and its configuration.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Load it: weights in safetensors alone, and no code of the folder's.

        Raises:
            UserError: there is no such LM, or it cannot be loaded.
        """
        folder = user_path(folder).absolute()
        weights = sorted(folder.glob(WEIGHTS))
        if not weights:
            raise UserError(f"model_folder={folder}: has no weights ({WEIGHTS})")
        try:
            self._tokenizer, self._model = _loaded(folder, device)
        except (*CANNOT_LOAD, KeyError, RuntimeError) as error:
            raise UserError(
                f"model_folder={folder}: cannot be loaded: {first_line(error)}"
            ) from None
        self._device = device
        self.name = folder.name
        read = [*weights, *sorted(folder.glob("*.json")), *sorted(folder.glob("*.jinja"))]
        self.sha256 = content_hash({path.name: file_sha256(path) for path in read})

    @torch.inference_mode()
    def say(self, messages: Sequence[Mapping[str, str]], max_tokens: int) -> Said:
        """What the LM says next.

        Args:
            messages: each with a `role` and its `content`; an LM without a chat template reads them
                one below another.
            max_tokens: that it says at most.

        Raises:
            UserError: the messages are longer than the LM reads.
        """
        ids = self._ids_of(messages).to(self._device)
        longest = getattr(self._model.config, "max_position_embeddings", None)
        if longest is not None and ids.shape[1] + max_tokens > longest:
            raise UserError(
                f"model_folder={self.name}: reads {longest:,} tokens, and this question with its "
                f"answer has {ids.shape[1] + max_tokens:,}; take another model"
            )
        found = self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_tokens,
            do_sample=False,
            pad_token_id=self._tokenizer.eos_token_id or 0,
        )[0, ids.shape[1] :]
        text = self._tokenizer.decode(found, skip_special_tokens=True)
        return Said(str(text), ids.shape[1], len(found))

    def _ids_of(self, messages: Sequence[Mapping[str, str]]) -> torch.Tensor:
        if getattr(self._tokenizer, "chat_template", None):
            text = self._tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )
            encoded = self._tokenizer(text, add_special_tokens=False, return_tensors="pt")
        else:
            text = "\n\n".join(message["content"] for message in messages) + "\n\n"
            encoded = self._tokenizer(text, return_tensors="pt")
        ids: torch.Tensor = encoded["input_ids"]
        return ids


def _loaded(folder: Path, device: torch.device) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    safe: Any = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(folder, **safe)
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", use_safetensors=True, **safe
    )
    return tokenizer, model.to(device).eval()
