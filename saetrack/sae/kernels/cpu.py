"""The passes of the sparse step on a CPU, compiled: `sparse.py` has the mathematics.

    search    tiles of the encoder's product, each compared and forgotten while in the cache
    decode    sae_out, token by token
    dots      gradients of the activations, pair by pair
    update    gradient, projection, Adam, unit rows, feature by feature

Weights and moments cross the memory bus once each way; no gradient matrix exists. Rows are summed
within a thread, in the order of the pairs, so that results do not depend on the number of threads;
that of tiles, which may change a product's rounding, is the same up to four of them.
"""

from __future__ import annotations

from threading import local
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from saetrack.sae.adam import BETA1, BETA2, EPSILON, Adam
from saetrack.sae.kernels import numba_kernels as kernels
from saetrack.sae.kernels.threads import spread

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy.typing import NDArray

    from saetrack.sae.config import EncoderPrecision
    from saetrack.sae.dead_features import DeadGradient
    from saetrack.sae.model import SAE

# Numbers of the encoder's product in a tile, 8 MB in float32: smaller ones stay nearer to the
# processor, but their products take longer, 9 % at half of it and 17 % at a quarter, measured.
TILE_NUMBERS = 2**21

# Features, and tokens, of a piece of the other passes.
FEATURES, TOKENS = 256, 128


# Encoders in bfloat16 that `update` keeps up to date, with the version of W_enc that they are of:
# torch counts its own changes of a tensor, `update` is none of them.
_coarse: WeakKeyDictionary[SAE, tuple[int, Tensor]] = WeakKeyDictionary()


def _pieces(size: int, first: int, last: int) -> list[tuple[int, int]]:
    return [(start, min(start + size, last)) for start in range(first, last, size)]


def search(
    sae: SAE,
    centred: Float[Tensor, "batch d_in"],
    above: Float[Tensor, " d_sae"],
    precision: EncoderPrecision,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `sparse.pairs_above`; returns what `ActivePairs` has: offsets, features, tokens, values.

    Args:
        sae: the weights.
        centred: x - b_dec.
        above: the bound of each feature.
        precision: of the product.
    """
    batch = len(centred)
    # Up to four threads, tiles are the same; where there are more, each gets two.
    of_threads = sae.d_sae // (2 * max(4, torch.get_num_threads()))
    tiles = _pieces(max(1, min(TILE_NUMBERS // batch, max(of_threads, FEATURES))), 0, sae.d_sae)
    coarse = precision == "bfloat16"
    W = coarse_encoder(sae) if coarse else sae.W_enc.detach().T
    columns, rows, W_enc = centred.to(W.dtype).T, _numpy(centred), _numpy(sae.W_enc.T)
    bias, bounds = _numpy(sae.b_enc), _numpy(above)
    counts = np.zeros(sae.d_sae + 1, np.int64)
    scratch = local()

    def of_tile(tile: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        if not hasattr(scratch, "product"):
            scratch.product = W.new_empty(tiles[0][1], batch)
            scratch.tokens = np.empty(scratch.product.numel(), np.int64)
            scratch.values = np.empty(scratch.product.numel(), np.float32)
        first, last = tile
        product = torch.mm(W[first:last], columns, out=scratch.product[: last - first])
        of_features = bias[first:last], bounds[first:last], counts[first + 1 : last + 1]
        room = scratch.tokens, scratch.values
        if coarse:
            bits = product.view(torch.uint16).numpy()
            n = kernels.compact_coarse(bits, W_enc[first:last], rows, *of_features, *room)
        else:
            n = kernels.compact(product.numpy(), *of_features, *room)
        return scratch.tokens[:n].copy(), scratch.values[:n].copy()

    found = spread(of_tile, tiles)
    return (
        torch.from_numpy(counts.cumsum()),
        torch.from_numpy(np.repeat(np.arange(sae.d_sae), counts[1:])),
        torch.from_numpy(np.concatenate([tokens for tokens, _ in found])),
        torch.from_numpy(np.concatenate([values for _, values in found])),
    )


def coarse_encoder(sae: SAE) -> Float[Tensor, "d_sae d_in"]:
    """W_enc^T in bfloat16: the kept one, or a new one if somebody has changed the weights."""
    version, kept = _coarse.get(sae, (None, None))
    if kept is None or version != sae.W_enc._version:  # noqa: SLF001
        kept = sae.W_enc.detach().T.to(torch.bfloat16)
        _coarse[sae] = (sae.W_enc._version, kept)  # noqa: SLF001
    return kept


def summed_rows(
    by_feature: Float[Tensor, "d_sae d_in"],
    features: Int[Tensor, " pairs"],
    tokens: Int[Tensor, " pairs"],
    acts: Float[Tensor, " pairs"],
    batch: int,
) -> Float[Tensor, "batch d_in"]:
    """Of each token, the weighted sum of its pairs' rows by feature."""
    begins, order = np.zeros(batch + 1, np.int64), np.empty(len(tokens), np.int64)
    kernels.sort_by_token(_numpy(tokens), begins, order)
    out = torch.zeros(batch, by_feature.shape[1])
    given = _numpy(by_feature), _numpy(features), _numpy(acts), begins, order, out.numpy()
    spread(lambda piece: kernels.decode(*given, *piece), _pieces(TOKENS, 0, batch))
    return out


def dot_products(
    offsets: Int[Tensor, " d_sae_and_one"],
    tokens: Int[Tensor, " pairs"],
    by_feature: Float[Tensor, "d_sae d_in"],
    by_token: Float[Tensor, "batch d_in"],
) -> Float[Tensor, " pairs"]:
    """Of each pair, its feature's row times its token's row."""
    out = torch.empty(len(tokens))
    of_pairs, rows = (_numpy(offsets), _numpy(tokens)), (_numpy(by_feature), _numpy(by_token))
    spread(
        lambda piece: kernels.dots(*of_pairs, *rows, out.numpy(), *piece),
        _pieces(FEATURES, 0, len(by_feature)),
    )
    return out


def update(
    sae: SAE,
    adam: Adam,
    pairs: tuple[Tensor, Tensor, Tensor],
    of_acts: Float[Tensor, " pairs"],
    centred: Float[Tensor, "batch d_in"],
    errors: list[tuple[slice, Float[Tensor, "batch d_in"]]],
    of_norms: Float[Tensor, " d_sae"] | None,
    dead: DeadGradient | None,
) -> Float[Tensor, " d_in"]:
    """Update W_enc, b_enc and W_dec with their moments, in a step that `adam` has begun.

    Args:
        sae: in training.
        adam: of this SAE.
        pairs: offsets, tokens and activations of the active pairs.
        of_acts: gradient by each pair's activation.
        centred: x - b_dec.
        errors: of successive features, the gradient by the `sae_out` that they answer for.
        of_norms: gradient by each decoder row's norm; None if rows keep norm 1.
        dead: what dead features learn beside.

    Returns:
        The sum over features of the gradient of b_enc, by the pairs, times the encoder row before
        the update: what b_dec gets through the encoder, negative.
    """
    given = tuple(_numpy(of) for of in pairs), _numpy(of_acts)
    trained = tuple(_trained(adam, name) for name in ("W_enc", "b_enc", "W_dec"))
    norms = np.empty(0, np.float32) if of_norms is None else _numpy(of_norms)
    extra, coarse, rates = _extra(sae, dead), _kept_bits(sae), _rates(adam)
    rows = _numpy(centred)
    pieces = [
        ((rows, _numpy(error)), piece)
        for features, error in errors
        for piece in _pieces(FEATURES, features.start, features.stop)
    ]
    shares = np.empty((len(pieces), sae.d_in), np.float32)

    def of_piece(number: int) -> None:
        by_token, piece = pieces[number]
        kernels.update(
            *given, by_token, trained, norms, extra, coarse, rates, shares[number], *piece
        )

    spread(of_piece, range(len(pieces)))
    return torch.from_numpy(shares.sum(axis=0))


def _numpy(tensor: Tensor) -> NDArray[Any]:
    """The same memory, if it is contiguous; otherwise a copy."""
    array: NDArray[Any] = tensor.detach().contiguous().numpy()
    return array


def _trained(adam: Adam, name: str) -> tuple[NDArray[np.float32], ...]:
    """A parameter and its moments, to be written."""
    tensors = adam.parameters[name], adam.exp_avg[name], adam.exp_avg_sq[name]
    assert all(tensor.is_contiguous() for tensor in tensors), name
    return tuple(tensor.numpy() for tensor in tensors)


def _rates(adam: Adam) -> tuple[np.float32, ...]:
    """As the kernel wants them: in float32, so that nothing is computed in float64."""
    size, root = adam.scales()
    rates = (size, 1 / root, 1 - BETA1, BETA2, 1 - BETA2, EPSILON)
    return tuple(np.float32(rate) for rate in rates)


def _extra(sae: SAE, dead: DeadGradient | None) -> tuple[NDArray[Any], ...]:
    """As the kernel wants it, with the index of each feature's row."""
    if dead is None:
        none = np.empty((0, 0), np.float32)
        return np.empty(0, np.int64), none, np.empty(0, np.float32), none
    at = np.full(sae.d_sae, -1)
    at[dead.features.numpy()] = np.arange(len(dead.features))
    return at, _numpy(dead.W_enc), _numpy(dead.b_enc), _numpy(dead.W_dec)


def _kept_bits(sae: SAE) -> NDArray[np.uint16]:
    """The kept encoder in bfloat16 as bits; empty if there is none."""
    if sae not in _coarse:
        return np.empty((0, 0), np.uint16)
    bits: NDArray[np.uint16] = _coarse[sae][1].view(torch.uint16).numpy()
    return bits
