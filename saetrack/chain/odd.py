"""What looks odd in a track's parameters but may be meant: said before it is trained."""

from __future__ import annotations

from saetrack.chain.budget import most_tokens
from saetrack.chain.config import TrackConfig
from saetrack.chain.schedule import Adaptive
from saetrack.sae.config import Optimiser


def odd_parameters(config: TrackConfig) -> list[str]:
    """A line for each parameter that has hardly the effect that one expects of it."""
    first, *later = _budgets(config)
    of_first = config.first_link if config.start is None else config.later_links
    name = "first_link" if config.start is None else "later_links"
    lines = [_warmup(name, of_first, first, config.batch_tokens)]
    if later and not (lines[0] and name == "later_links"):
        lines.append(_warmup("later_links", config.later_links, min(later), config.batch_tokens))
    if (least := min([first, *later])) < config.batch_tokens:
        lines.append(
            f"schedule: tokens={least:,} are less than batch_tokens={config.batch_tokens:,}: such "
            "a link takes one step of a smaller batch"
        )
    lines.append(_rereading(max([first, *later]), config.corpus.train_tokens))
    return [line for line in lines if line]


def _budgets(config: TrackConfig) -> list[int]:
    """Tokens of links that differ in them: at most, where a link may end earlier."""
    schedule = config.schedule
    if isinstance(schedule, Adaptive):
        return [most_tokens(schedule.first_tokens), most_tokens(schedule.tokens)]
    budgets = [most_tokens(piece.tokens) for piece in schedule for _ in range(piece.repeat)]
    first = schedule[0]
    return budgets if first.last == first.first else [*budgets, most_tokens(first.tokens)]


def _rereading(tokens: int, train_tokens: int) -> str:
    if tokens <= train_tokens:
        return ""
    return (
        f"schedule: a link of {tokens:,} tokens reads the text of "
        f"corpus.train_tokens={train_tokens:,} {tokens / train_tokens:,.1f} times"
    )


def _warmup(name: str, optimiser: Optimiser, tokens: int, batch_tokens: int) -> str:
    steps = -(-tokens // batch_tokens)
    if optimiser.warmup_steps <= steps:
        return ""
    return (
        f"{name}.warmup_steps={optimiser.warmup_steps:,}: a link of {tokens:,} tokens has "
        f"{steps:,} {'step' if steps == 1 else 'steps'} of batch_tokens={batch_tokens:,}, and "
        "never reaches its learning rate; "
        f"{name}.warmup_steps={steps // 10} would be a tenth of them"
    )
