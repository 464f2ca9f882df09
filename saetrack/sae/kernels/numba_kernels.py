"""The kernels of `cpu.py`, compiled by numba: each works on some features or some tokens.

Rows are summed in the order of the pairs, whatever the number of threads. All of it lies in one
file, since numba's cache of compiled code notices changes of the file alone in which a kernel lies.

A kernel's arguments, where they recur:
    offsets, tokens, acts: of pairs, as in `ActivePairs`.
    first, last: the features, or the tokens, that this call works on.
    encoder, decoder, bias: value and both moments, with features along the first axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numba import float32, int64, njit, types, uint16, void

Kernel = TypeVar("Kernel", bound=Callable[..., object])

# Tokens that are looked at together: most such spans of a feature have no active one.
SPAN = 64

# Sums may be taken in another order, the same in each run, and products be added without rounding.
SUMS = {"reassoc", "contract"}

_f1, _f2, _i1 = float32[::1], float32[:, ::1], int64[::1]
_pairs = types.Tuple((_i1, _i1, _f1))
_vector, _matrix = types.UniTuple(_f1, 3), types.UniTuple(_f2, 3)


def _kernel(*signature: object) -> Callable[[Kernel], Kernel]:
    """Compile for these types alone, and keep what was compiled where that is possible."""

    def compiled(function: Kernel) -> Kernel:
        options = {"nogil": True, "fastmath": SUMS, "error_model": "numpy"}
        try:
            return njit(*signature, cache=True, **options)(function)
        except (RuntimeError, OSError):  # nothing may be written, neither here nor in a home
            return njit(*signature, **options)(function)

    return compiled


@_kernel(float32(_f1, _f1))
def _dot(left, right):
    total = np.float32(0)
    for j in range(left.size):
        total += left[j] * right[j]
    return total


@_kernel(void(_f1, float32, _f1))
def _add(total, weight, row):
    for j in range(total.size):
        total[j] += weight * row[j]


@_kernel(int64(_f2, _f1, _f1, _i1, _i1, _f1))
def compact(product, bias, above, counts, tokens, values):
    """Keep what exceeds a bound of a tile of the encoder's product.

    Args:
        product: without bias, (features, batch).
        bias: of each feature.
        above: bound of each feature.
        counts: written; how many of each feature's pairs exceed it.
        tokens: written, as far as pairs are found; room for all.
        values: likewise, product and bias.

    Returns:
        How many pairs were found.
    """
    found = 0
    batch = product.shape[1]
    for f in range(product.shape[0]):
        row, begin, by, bound = product[f], found, bias[f], above[f]
        for start in range(0, batch, SPAN):
            part = row[start : start + SPAN]
            any_above = np.int32(1)
            if part.size == SPAN:  # a fixed number, which becomes vector instructions
                any_above = np.int32(0)
                for t in range(SPAN):
                    any_above |= np.int32(part[t] + by > bound)
            if any_above:
                for t in range(part.size):
                    value = part[t] + by
                    if value > bound:
                        tokens[found] = start + t
                        values[found] = value
                        found += 1
        counts[f] = found - begin
    return found


@_kernel(float32(uint16))
def _widened(bits):
    """A number of bfloat16, given as bits."""
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


@_kernel(int64(uint16[:, ::1], _f2, _f2, _f1, _f1, _i1, _i1, _f1))
def compact_coarse(product, W_enc, centred, bias, above, counts, tokens, values):
    """As `compact`, of a product in bfloat16 given as bits; values are exact, and exceed the bound.

    Args:
        W_enc: rows of the tile's features, (features, d_in).
        centred: x - b_dec, (batch, d_in).
    """
    found = 0
    batch = product.shape[1]
    for f in range(product.shape[0]):
        row, begin, by, bound = product[f], found, bias[f], above[f]
        for start in range(0, batch, SPAN):
            part = row[start : start + SPAN]
            any_above = np.int32(1)
            if part.size == SPAN:
                any_above = np.int32(0)
                for t in range(SPAN):
                    any_above |= np.int32(_widened(part[t]) + by > bound)
            if any_above:
                for t in range(part.size):
                    if _widened(part[t]) + by > bound:
                        value = _dot(W_enc[f], centred[start + t]) + by
                        if value > bound:
                            tokens[found] = start + t
                            values[found] = value
                            found += 1
        counts[f] = found - begin
    return found


@_kernel(void(_i1, _i1, _i1))
def sort_by_token(tokens, begins, order):
    """Pairs token by token, features ascending.

    Args:
        tokens: of the pairs.
        begins: written, from zeros; where each token's pairs begin, and the end, (batch + 1,).
        order: written; the pairs' numbers.
    """
    for i in range(tokens.size):
        begins[tokens[i] + 1] += 1
    for t in range(begins.size - 1):
        begins[t + 1] += begins[t]
    following = begins[:-1].copy()
    for i in range(tokens.size):
        order[following[tokens[i]]] = i
        following[tokens[i]] += 1


@_kernel(void(_f2, _i1, _f1, _i1, _i1, _f2, int64, int64))
def decode(W_dec, features, acts, begins, order, out, first, last):
    """Add the weighted rows of each token's pairs to `out`, (batch, d_in)."""
    for t in range(first, last):
        row, begin, end = out[t], begins[t], begins[t + 1]
        for k in range(begin, end - 3, 4):
            p0, p1, p2, p3 = order[k], order[k + 1], order[k + 2], order[k + 3]
            a0, a1, a2, a3 = acts[p0], acts[p1], acts[p2], acts[p3]
            w0, w1 = W_dec[features[p0]], W_dec[features[p1]]
            w2, w3 = W_dec[features[p2]], W_dec[features[p3]]
            for j in range(row.size):
                row[j] += (a0 * w0[j] + a1 * w1[j]) + (a2 * w2[j] + a3 * w3[j])
        for k in range(end - (end - begin) % 4, end):
            _add(row, acts[order[k]], W_dec[features[order[k]]])


@_kernel(void(_i1, _i1, _f2, _f2, _f1, int64, int64))
def dots(offsets, tokens, by_feature, by_token, out, first, last):
    """Write each pair's product of its feature's row and its token's row."""
    for f in range(first, last):
        for p in range(offsets[f], offsets[f + 1]):
            out[p] = _dot(by_feature[f], by_token[tokens[p]])


@_kernel(void(_f1, _i1, _f1, _f2, int64, int64))
def _sum_rows(total, tokens, weights, by_token, begin, end):
    """Write the sum of the tokens' rows times weights, four rows at a time."""
    total[:] = np.float32(0)
    for p in range(begin, end - 3, 4):
        a0, a1, a2, a3 = weights[p], weights[p + 1], weights[p + 2], weights[p + 3]
        r0, r1 = by_token[tokens[p]], by_token[tokens[p + 1]]
        r2, r3 = by_token[tokens[p + 2]], by_token[tokens[p + 3]]
        for j in range(total.size):
            total[j] += (a0 * r0[j] + a1 * r1[j]) + (a2 * r2[j] + a3 * r3[j])
    for p in range(end - (end - begin) % 4, end):
        _add(total, weights[p], by_token[tokens[p]])


@_kernel(void(_f1, _f1, _f1, _f1, types.UniTuple(float32, 6)))
def _adam(values, exp_avg, exp_avg_sq, gradient, rates):
    """Adam of a row; the rates are those of `update`."""
    size, inverse_root, rate1, beta2, rate2, epsilon = rates
    for j in range(values.size):
        by = gradient[j]
        mean = exp_avg[j] + (by - exp_avg[j]) * rate1
        square = exp_avg_sq[j] * beta2 + by * by * rate2
        exp_avg[j], exp_avg_sq[j] = mean, square
        values[j] -= size * mean / (np.sqrt(square) * inverse_root + epsilon)


@_kernel(void(_f1, _f1, float32))
def _project(gradient, row, of_norm):
    """Add the gradient of a row's norm; of a row of norm 1, take away the part along it.

    Args:
        of_norm: gradient by the row's norm; NaN if rows keep norm 1.
    """
    if np.isnan(of_norm):
        _add(gradient, -_dot(gradient, row), row)
    else:
        _add(gradient, of_norm / max(np.sqrt(_dot(row, row)), np.float32(1e-12)), row)


@_kernel(void(_f1))
def _normalise(row):
    factor = np.float32(1) / max(np.sqrt(_dot(row, row)), np.float32(1e-12))
    for j in range(row.size):
        row[j] *= factor


@_kernel(void(_f1, uint16[::1]))
def _round(row, coarse):
    """Write a row in bfloat16, as bits, rounded to the nearest and from the middle to even."""
    for j in range(row.size):
        bits = np.float32(row[j]).view(np.uint32)
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        coarse[j] = np.uint16((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))


@_kernel(
    void(
        _pairs,
        _f1,
        types.UniTuple(_f2, 2),
        types.Tuple((_matrix, _vector, _matrix)),
        _f1,
        types.Tuple((_i1, _f2, _f1, _f2)),
        uint16[:, ::1],
        types.UniTuple(float32, 6),
        _f1,
        int64,
        int64,
    )
)
def update(pairs, of_acts, by_token, trained, of_norms, extra, coarse, rates, share, first, last):
    """Gradient, projection, Adam and unit rows: weights and moments are visited once.

    Args:
        pairs: offsets, tokens, acts.
        of_acts: gradient by each pair's activation.
        by_token: x - b_dec; gradient by `sae_out`; (batch, d_in).
        trained: encoder, bias, decoder.
        of_norms: gradient by each decoder row's norm, (d_sae,); empty if rows keep norm 1.
        extra: what some features learn beside: their row here for each feature, -1 for none,
            (d_sae,), or empty if there are none; gradients of their encoder rows, biases and
            decoder rows.
        coarse: written, `W_enc` in bfloat16 as bits, (d_sae, d_in); empty if nobody wants it.
        rates: the step's size, with its first bias correction; the root of its second, inverse;
            1 - beta1; beta2; 1 - beta2; epsilon.
        share: written; sum over the features of the bias's gradient, without what is learnt
            beside, times the encoder row, (d_in,).
    """
    offsets, tokens, acts = pairs
    extra_at, extra_encoder, extra_bias, extra_decoder = extra
    encoder, bias, decoder = trained
    gradient, of_bias = np.empty(share.size, np.float32), np.empty(1, np.float32)
    share[:] = np.float32(0)
    for f in range(first, last):
        begin, end = offsets[f], offsets[f + 1]
        at = extra_at[f] if extra_at.size else -1
        row = decoder[0][f]
        _sum_rows(gradient, tokens, acts, by_token[1], begin, end)
        if at >= 0:
            _add(gradient, np.float32(1), extra_decoder[at])
        _project(gradient, row, of_norms[f] if of_norms.size else np.float32(np.nan))
        _adam(row, decoder[1][f], decoder[2][f], gradient, rates)
        if not of_norms.size:
            _normalise(row)
        row = encoder[0][f]
        _sum_rows(gradient, tokens, of_acts, by_token[0], begin, end)
        of_bias[0] = of_acts[begin:end].sum()
        _add(share, of_bias[0], row)
        if at >= 0:
            _add(gradient, np.float32(1), extra_encoder[at])
            of_bias[0] += extra_bias[at]
        _adam(row, encoder[1][f], encoder[2][f], gradient, rates)
        _adam(bias[0][f : f + 1], bias[1][f : f + 1], bias[2][f : f + 1], of_bias, rates)
        if coarse.size:
            _round(row, coarse[f])
