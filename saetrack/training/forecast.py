"""What a track would do and cost, before it does it: links, downloads, disk, memory, time.

Time is counted in multiplications: the LM's weights below the hook for each token, the encoder's
product and, of a link from scratch, the dense step's six products, and the evaluations; divided by
what a product of this size reaches here in a second or so, of which a track gets about half. It may
be twice as long.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from saetrack.chain.adaptive import in_pieces, known_choice
from saetrack.chain.budget import most_tokens
from saetrack.chain.compatibility import absent_checkpoints
from saetrack.chain.config import TrackConfig
from saetrack.chain.odd import odd_parameters
from saetrack.chain.schedule import Adaptive
from saetrack.lm.catalog.architectures import parameters
from saetrack.lm.catalog.models import ModelSpec
from saetrack.lm.checkpoints.files import CHECKPOINT, CONFIG
from saetrack.lm.checkpoints.shape import shape_of
from saetrack.lm.checkpoints.store import commit_folder, commit_of, named_revisions
from saetrack.lm.stream import KINDS
from saetrack.registry.foreseen import Foreseen, foresee
from saetrack.sae.dense import BLOCK_NUMBERS, WHOLE_NUMBERS
from saetrack.utils.device import choose_device
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings

FLOAT_BYTES = 4
# Of the rate of a bare product that a whole track reaches, on the processors where it was timed.
EFFICIENCY = 0.5
# Of a checkpoint, beside the products: to load its LM, and to register its links.
SECONDS_PER_CHECKPOINT = 2.0
# Of a process with torch, transformers and MLflow, before anything is loaded into it.
PROCESS_BYTES = 0.8e9
# Inside a block, TransformerLens keeps the joint weights of queries, keys and values beside those
# of each: a quarter of a block.
BRIDGED_COPIES = 1.25
# Arrays of activations that a dense step has at once, gradients included.
DENSE_ARRAYS = 3


@dataclass(frozen=True)
class Forecast:
    """What a track would take; what depends on files that are not here yet is None.

    That is all that follows from the LM's width, if no config.json of it has come here so far.

    Attributes:
        links: of all hooks.
        registered_links: of them, that need no training any more.
        registered_is_exact: whether it is so many, rather than so many at most
            (`saetrack.registry.foreseen`).
        train_tokens: that pass through the LM for training, once for all hooks; at most, where
            links end at a plateau.
        checkpoints: different ones.
        order: from which LM step to which they are visited, as the end of a phrase; empty if that
            is not known, or there is one.
        download_bytes: of their weights in 16 bits, as most are published; 0 where none is needed.
        registry_bytes: of all links.
        state_bytes: of the state that is saved while a checkpoint trains.
        memory_bytes: at the peak: the process, LM, dictionaries with Adam's moments, buffer,
            held-out residuals, and a dense step or a state that is being written.
        product_rate: multiply-adds per second that were measured.
        hours: of training.
        warnings: what looks odd in the parameters, a line each.
    """

    links: int
    registered_links: int
    registered_is_exact: bool
    train_tokens: int
    checkpoints: int
    order: str
    download_bytes: int | None
    registry_bytes: int | None
    state_bytes: int | None
    memory_bytes: int | None
    product_rate: float | None
    hours: float | None
    warnings: tuple[str, ...]


def forecast(config: TrackConfig, settings: Settings) -> Forecast:
    """Estimate a track. Trains nothing and downloads nothing.

    Raises:
        UserError: as `open_track`, as far as what it needs is here.
    """
    foreseen = foresee(config, settings)
    spec = _with_shape(foreseen.spec, settings.cache_dir)
    n_fetched = _candidates(config, spec, settings.cache_dir)
    odd = [*odd_parameters(config), *foreseen.lines]
    config = in_pieces(config, settings.cache_dir, spec.lm_steps)
    budgets = _budgets(config, foreseen, odd)
    n_hooks = len(config.all_hooks)
    indices = [index for index, _ in budgets]
    train_tokens = sum(tokens for _, tokens in budgets)
    n_checkpoints, registered = len(set(indices)), (foreseen.registered, foreseen.is_exact)
    counts = (len(budgets) * n_hooks, *registered, train_tokens, n_checkpoints)
    order = _order(indices, spec)
    if not spec.d_model:
        return Forecast(*counts, order, None, None, None, None, None, None, tuple(odd))
    lm_weights, weights_to_hook = _lm_weights(spec, max(hook.layer for hook in config.all_hooks))
    sae_numbers = config.d_sae * (2 * spec.d_model + 1) + spec.d_model
    buffer_numbers = min(config.buffer_tokens, max((t for _, t in budgets), default=0))
    buffer_numbers *= n_hooks * spec.d_model
    state_numbers = 3 * sae_numbers * n_hooks
    copies = 1 if {hook.kind for hook in config.all_hooks} <= set(KINDS) else BRIDGED_COPIES
    loaded = copies * (lm_weights if config.evaluation.ce_tokens else weights_to_hook)
    held_out = n_hooks * config.corpus.held_out_tokens * spec.d_model
    # A fresh dictionary is active everywhere; later, copies of dictionaries are written as states.
    dense = _dense_numbers(config, sae_numbers) if config.start is None else 0
    rate = _product_rate(spec.d_model, config.d_sae, settings)
    return Forecast(
        *counts,
        order=order,
        download_bytes=2 * lm_weights * (n_fetched or n_checkpoints) if spec.repo else 0,
        registry_bytes=FLOAT_BYTES * (sae_numbers + config.d_sae) * counts[0],
        state_bytes=FLOAT_BYTES * (state_numbers + buffer_numbers),
        memory_bytes=int(
            PROCESS_BYTES
            + FLOAT_BYTES
            * (loaded + state_numbers + buffer_numbers + held_out + max(dense, state_numbers))
        ),
        product_rate=rate,
        hours=_seconds(config, budgets, (lm_weights, weights_to_hook), spec.d_model, rate) / 3600,
        warnings=tuple(odd),
    )


def _order(indices: list[int], spec: ModelSpec) -> str:
    """The first and the last LM step of the chain, in its order."""
    if not spec.lm_steps or not indices or indices[0] == indices[-1]:
        return ""
    first, last = spec.lm_steps[indices[0]], spec.lm_steps[indices[-1]]
    return f"from LM step {first:,} {'to' if first < last else 'back to'} {last:,}"


def _budgets(config: TrackConfig, foreseen: Foreseen, odd: list[str]) -> list[tuple[int, int]]:
    """Position and tokens, at most, of each link; what the LM lacks is added to the odd things.

    Raises:
        UserError: it lacks all of the schedule's checkpoints.
    """
    spec, planned = foreseen.spec, foreseen.budgets
    absent = absent_checkpoints(config, spec) if spec.is_listed else ""
    if absent and spec.lm_steps and not planned:
        raise UserError(f"schedule: {absent}")
    if absent:
        odd.append(f"schedule: {absent}; the chain goes over those that there are")
    return [(position, most_tokens(budget)) for position, budget in planned]


def _candidates(config: TrackConfig, spec: ModelSpec, cache_dir: Path) -> int:
    """How many checkpoints are to be fetched to choose among; 0 once it is done."""
    schedule = config.schedule
    if not isinstance(schedule, Adaptive) or known_choice(config, cache_dir) is not None:
        return 0
    return len(schedule.candidates(len(spec.lm_steps))) if spec.lm_steps else 0


def _dense_numbers(config: TrackConfig, sae_numbers: int) -> int:
    """Numbers that a dense step has beside the dictionary: activations and gradients.

    The gradient of `W_enc`, half of all, has two terms that are added.
    """
    acts = config.batch_tokens * config.d_sae
    if acts <= WHOLE_NUMBERS:
        return DENSE_ARRAYS * acts + 3 * sae_numbers // 2
    return DENSE_ARRAYS * BLOCK_NUMBERS + 5 * sae_numbers // 2  # of a block, and the sum so far


def _with_shape(spec: ModelSpec, cache_dir: Path) -> ModelSpec:
    """An LM whose catalogue entry does not say its shape, with that of a config.json on disk."""
    if spec.d_model or spec.repo is None:
        return spec
    for revision in named_revisions(cache_dir, spec.repo):
        commit = commit_of(cache_dir, spec.repo, revision)
        for part in (CONFIG, CHECKPOINT) if commit else ():
            folder = commit_folder(cache_dir, part, spec.repo, str(commit))
            if (folder / "config.json").is_file():
                shape = shape_of(folder)
                return replace(spec, n_layers=shape.n_layers, d_model=shape.d_model)
    return spec


def _lm_weights(spec: ModelSpec, layer: int) -> tuple[int, int]:
    """Weights of the whole LM, and of it up to the hook; from its shape where no entry tells."""
    n_blocks = min(layer + 1, spec.n_layers)
    if spec.entry is not None:
        whole, part = (parameters(spec.entry, n) for n in (spec.n_layers, n_blocks))
        if whole is not None and part is not None:
            return whole, part
    per_block = 12 * spec.d_model**2
    return per_block * spec.n_layers, per_block * n_blocks


def _seconds(
    config: TrackConfig,
    budgets: list[tuple[int, int]],
    lm_weights: tuple[int, int],
    d_model: int,
    rate: float,
) -> float:
    """That a track takes where a product reaches so many multiply-adds per second."""
    products = _products(config, budgets, lm_weights, d_model)
    return products / (rate * EFFICIENCY) + SECONDS_PER_CHECKPOINT * len(budgets)


def _products(
    config: TrackConfig, budgets: list[tuple[int, int]], lm_weights: tuple[int, int], d_model: int
) -> float:
    """Multiply-adds of a track; weights of the whole LM and of it up to the hook."""
    whole, weights_to_hook = lm_weights
    dictionary = len(config.all_hooks) * d_model * config.d_sae
    total = 0.0
    for number, (_, tokens) in enumerate(budgets):
        from_scratch = number == 0 and config.start is None
        # The sparse step decodes and sums over active pairs: about half an encoder's product.
        of_sae = (6 if from_scratch else 1.5) * dictionary
        total += tokens * (weights_to_hook + of_sae)
    evaluations = 2 + len(config.evaluation.eval_at_fractions)
    of_held_out = config.corpus.held_out_tokens * (weights_to_hook + 2 * evaluations * dictionary)
    n_losses = evaluations + 3  # with the SAE, and of the LM as it is and with two ablations
    of_ce = len(config.all_hooks) * n_losses * config.evaluation.ce_tokens * whole
    return total + len(budgets) * (of_held_out + of_ce)


def _product_rate(d_in: int, d_sae: int, settings: Settings) -> float:
    """Multiply-adds per second of an encoder's product on this machine's device."""
    device = choose_device(settings)
    rows, columns = 512, min(d_sae, 8192)
    x = torch.randn(rows, d_in, device=device)
    W_enc = torch.randn(d_in, columns, device=device)
    x @ W_enc
    done, began_s = 0, time.perf_counter()
    while (spent_s := time.perf_counter() - began_s) < 0.5:
        x @ W_enc
        if device.type == "cuda":
            torch.cuda.synchronize()
        done += rows * d_in * columns
    return done / spent_s
