"""An LM of a folder answers questions; what it cannot do is one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from saetrack.analysis.explanations.folder_model import FolderModel
from saetrack.analysis.explanations.model import Budget, Meter
from saetrack.analysis.explanations.questions import Question
from saetrack.lm.chat import ChatLM
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.utils.errors import UserError

CPU = torch.device("cpu")
MESSAGES = [{"role": "system", "content": "def f"}, {"role": "user", "content": "return"}]
TEMPLATE = "{% for one in messages %}<{{ one.role }}>{{ one.content }}{% endfor %}<me>"


@pytest.fixture(scope="module")
def folder(source: CheckpointSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The nano LM's last checkpoint, with its tokenizer."""
    (checkpoint,) = source.resolve([5])
    to = tmp_path_factory.mktemp("nano-chat")
    shutil.copytree(source.fetch(checkpoint), to, dirs_exist_ok=True)
    tokenizer, _ = source.tokenizer()
    tokenizer.save_pretrained(to)
    return to


def test_it_says_the_same_each_time(folder: Path) -> None:
    lm = ChatLM(folder, CPU)
    said = lm.say(MESSAGES, 6)
    assert said == ChatLM(folder, CPU).say(MESSAGES, 6)
    assert said.text and 0 < said.tokens_out <= 6
    tokenizer = lm._tokenizer
    assert said.tokens_in == len(tokenizer("def f\n\nreturn\n\n").input_ids)


def test_a_chat_template_is_used_where_there_is_one(folder: Path, tmp_path: Path) -> None:
    plain = ChatLM(folder, CPU)
    other = Path(shutil.copytree(folder, tmp_path / "chat"))
    (other / "chat_template.jinja").write_text(TEMPLATE)
    chat = ChatLM(other, CPU)
    asked = "<system>def f<user>return<me>"
    assert chat._tokenizer.decode(chat._ids_of(MESSAGES)[0]) == asked
    assert plain.sha256 != chat.sha256


def test_weights_decide_its_identity(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    weights = next(other.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert ChatLM(folder, CPU).sha256 != ChatLM(other, CPU).sha256


@pytest.mark.parametrize(
    ("damage", "said"),
    [("empty", "has no weights"), ("config", "cannot be loaded"), ("weights", "cannot be loaded")],
)
def test_what_cannot_be_loaded_is_one_line(
    folder: Path, tmp_path: Path, damage: str, said: str
) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "damaged"))
    if damage == "empty":
        other = tmp_path
    elif damage == "config":
        (other / "config.json").write_text('{"model_type": "no such"}')
    else:
        next(other.glob("*.safetensors")).write_bytes(b"no tensors")
    with pytest.raises(UserError, match=said) as caught:
        ChatLM(other, CPU)
    assert str(caught.value).startswith("model_folder=") and "\n" not in str(caught.value)


def test_it_is_asked_within_the_budget_and_what_it_reads(folder: Path) -> None:
    meter = Meter(Budget(requests=1))
    model = FolderModel(ChatLM(folder, CPU), meter)
    question = Question("detection", 0, 0, 0, ())
    with pytest.raises(UserError, match="tokens, and this question with its answer has"):
        model.answer(question, [{"role": "user", "content": "return " * 500}])
    with pytest.raises(UserError, match="budget_requests=1"):
        model.answer(question, MESSAGES)
