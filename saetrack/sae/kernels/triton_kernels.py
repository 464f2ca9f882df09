"""The sparse step's kernels for a GPU, in Triton; `fused.py` says in which order they run.

Floating-point numbers are float32, matrices row-major, offsets int64, other integers int32. A
program works on one feature, on one token, or on a few features in turn, and sums in a fixed order:
equal inputs give equal bits.

The kernels after the search work on lists that have room for a fixed number of pairs. If more were
found, no kernel writes anything, and the host starts them again with enough room.

Arguments that several kernels have:
    pairs: (offsets, tokens, features, feature_acts): where each feature's pairs begin, and the end
        of the last, (d_sae + 1,); then of each pair, ascending by feature and token, (room,).
    W_enc: transposed, (d_sae, d_in).
    centred: x - b_dec, (batch, d_in).
    sizes: (d_sae, d_in, room).
    trained: (values, exp_avg, exp_avg_sq) of a parameter, three of one shape.
    rates: (weight of an activation in the loss, Adam's step size over its first bias correction,
        square root of its second).
    TILE: pairs at a time.
    BLOCK_D: d_in, rounded up to a power of two.
"""

from __future__ import annotations

import triton
import triton.language as tl

from saetrack.sae import adam

BETA1 = tl.constexpr(adam.BETA1)
BETA2 = tl.constexpr(adam.BETA2)
EPSILON = tl.constexpr(adam.EPSILON)

# Bits of a word.
WORD = tl.constexpr(32)


@triton.jit
def mark_kernel(
    product, b_enc, norms, words, counts, batch, n_words, slack, BLOCK_WORDS: tl.constexpr
):
    """One bit per (feature, token): may it be active? Reads the product once.

    Args:
        product: W_enc^T (x - b_dec)^T of some features, (features, batch), any precision.
        b_enc: (features,).
        norms: of the encoder's columns, (features,), and of x - b_dec, (batch,).
        words: written, (features, n_words): token t is bit t % 32 of word t // 32.
        counts: written, bits set per feature, (features,).
        batch: tokens.
        n_words: batch / 32, rounded up.
        slack: the product's error, as a share of the two norms' product and of `b_enc`.
        BLOCK_WORDS: words at a time.
    """
    feature = tl.program_id(0).to(tl.int64)
    bias = tl.load(b_enc + feature)
    feature_norm = tl.load(norms[0] + feature)
    bit = tl.arange(0, WORD)[None, :]
    count = 0
    for start in range(0, n_words, BLOCK_WORDS):
        word = start + tl.arange(0, BLOCK_WORDS)
        token = word[:, None] * WORD + bit
        is_token = token < batch
        pre = tl.load(product + feature * batch + token, mask=is_token, other=0.0)
        pre = pre.to(tl.float32) + bias
        norm = feature_norm * tl.load(norms[1] + token, mask=is_token, other=0.0)
        may_fire = ((pre > -slack * (norm + tl.abs(bias))) & is_token).to(tl.int32)
        packed = tl.sum(may_fire << bit, axis=1)
        tl.store(words + feature * n_words + word, packed, mask=word < n_words)
        count += tl.sum(may_fire)
    tl.store(counts + feature, count)


@triton.jit
def fill_kernel(words, pairs, sizes, batch, n_words, BLOCK_TOKENS: tl.constexpr):
    """Write the marked pairs' features and tokens; arguments as in `mark_kernel`."""
    offsets, tokens, features, _ = pairs
    feature = tl.program_id(0)
    begin, end = tl.load(offsets + feature), tl.load(offsets + feature + 1)
    if (tl.load(offsets + sizes[0]) > sizes[2]) | (begin == end):
        return
    for start in range(0, batch, BLOCK_TOKENS):
        token = start + tl.arange(0, BLOCK_TOKENS)
        at = feature.to(tl.int64) * n_words + token // WORD
        marked = (tl.load(words + at, mask=token < batch, other=0) >> (token % WORD)) & 1
        pair = begin + tl.cumsum(marked, axis=0) - 1
        tl.store(tokens + pair, token, mask=marked == 1)
        tl.store(features + pair, feature, mask=marked == 1)
        begin += tl.sum(marked)


@triton.jit
def act_kernel(
    W_enc,
    b_enc,
    centred,
    pairs,
    active_tokens,
    sizes,
    TILE: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Write the pairs' activations (Eq 11), 0 for a marked pair that is not active.

    `active_tokens`, written, (d_sae,), says on how many tokens each feature is active.
    """
    d_sae, d_in, room = sizes
    offsets, tokens, _, acts = pairs
    feature = tl.program_id(0)
    begin, end = tl.load(offsets + feature), tl.load(offsets + feature + 1)
    if tl.load(offsets + d_sae) > room:
        return
    active = 0
    if begin < end:
        column = tl.arange(0, BLOCK_D)
        at = feature.to(tl.int64) * d_in + column
        row = tl.load(W_enc + at, mask=column < d_in, other=0.0)
        bias = tl.load(b_enc + feature)
        for start in range(begin, end, TILE):
            pair = start + tl.arange(0, TILE)
            is_pair = pair < end
            token = tl.load(tokens + pair, mask=is_pair, other=0)
            x = _rows(centred, token, is_pair, d_in, BLOCK_D)
            act = tl.sum(x * row[None, :], axis=1) + bias
            act = tl.where((act > 0) & is_pair, act, 0.0)
            tl.store(acts + pair, act, mask=is_pair)
            active += tl.sum((act > 0).to(tl.int32))
    tl.store(active_tokens + feature, active)


@triton.jit
def decode_kernel(
    W_dec, b_dec, pairs, by_token, sae_out, sizes, TILE: tl.constexpr, BLOCK_D: tl.constexpr
):
    """Write each token's reconstruction (Eq 12), the weighted sum of its active features' rows.

    `by_token`: the pairs' numbers, token by token, (room,), int64; where each token's begin there,
    and the end of the last, (batch + 1,).
    """
    d_in = sizes[1]
    _, _, features, acts = pairs
    token = tl.program_id(0)
    end = tl.load(by_token[1] + token + 1)
    column = tl.arange(0, BLOCK_D)
    in_row = column < d_in
    out = tl.load(b_dec + column, mask=in_row, other=0.0)
    for start in range(tl.load(by_token[1] + token), end, TILE):
        index = start + tl.arange(0, TILE)
        pair = tl.load(by_token[0] + index, mask=index < end, other=0)
        act = tl.load(acts + pair, mask=index < end, other=0.0)
        feature = tl.load(features + pair, mask=act > 0, other=0)
        out += tl.sum(_rows(W_dec, feature, act > 0, d_in, BLOCK_D) * act[:, None], axis=0)
    tl.store(sae_out + token.to(tl.int64) * d_in + column, out, mask=in_row)


@triton.jit
def update_kernel(
    W_enc,
    b_enc,
    W_dec,
    tokenwise,
    pairs,
    sums,
    sizes,
    rates,
    BY_NORM: tl.constexpr,
    GROUP: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Gradient, projection, Adam and unit rows of GROUP features; W_enc, b_enc, W_dec are trained.

    Args as in the module's docstring, and:
        tokenwise: centred; gradient of the reconstruction term by sae_out, (batch, d_in).
        sums: written; each feature's part of the L1 term, summed over tokens, (d_sae,); each
            program's sum over its features of db_enc_f W_enc_f, (programs, d_in).
        BY_NORM: penalty `decoder_norm`, otherwise `unit_decoder`.
    """
    d_sae, d_in, room = sizes
    if tl.load(pairs[0] + d_sae) > room:
        return
    first = tl.program_id(0) * GROUP
    column = tl.arange(0, BLOCK_D)
    in_row = column < d_in
    share = tl.zeros((BLOCK_D,), tl.float32)
    for feature in range(first, tl.minimum(first + GROUP, d_sae)):
        # All rows are loaded before the first is used, so that the loads overlap.
        at = tl.cast(feature, tl.int64) * d_in + column
        encoder, decoder = _load(W_enc, at, in_row), _load(W_dec, at, in_row)
        bias = _load(b_enc, feature, True)
        dW_dec, dW_enc, db_enc, l1_term = _gradient(
            decoder[0], feature, tokenwise, pairs, rates[0], d_in, BY_NORM, TILE, BLOCK_D
        )
        tl.store(sums[0] + feature, l1_term)
        share += db_enc * encoder[0]
        row = _adam(W_dec, decoder, dW_dec, at, in_row, rates)
        if not BY_NORM:
            row = row / tl.maximum(tl.sqrt(tl.sum(row * row)), 1e-12)
        tl.store(W_dec[0] + at, row, mask=in_row)
        tl.store(W_enc[0] + at, _adam(W_enc, encoder, dW_enc, at, in_row, rates), mask=in_row)
        tl.store(b_enc[0] + feature, _adam(b_enc, bias, db_enc, feature, True, rates))
    tl.store(sums[1] + tl.program_id(0).to(tl.int64) * d_in + column, share, mask=in_row)


@triton.jit
def bias_kernel(b_dec, gradient, offsets, sizes, rates, BLOCK: tl.constexpr):
    """Adam on the trained `b_dec`, with its gradient, (d_in,)."""
    d_sae, d_in, room = sizes
    if tl.load(offsets + d_sae) > room:
        return
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < d_in
    by = tl.load(gradient + at, mask=mask, other=0.0)
    tl.store(b_dec[0] + at, _adam(b_dec, _load(b_dec, at, mask), by, at, mask, rates), mask=mask)


@triton.jit
def _rows(matrix, index, is_row, d_in, BLOCK_D: tl.constexpr):
    """Some rows of a (..., d_in) matrix, (TILE, BLOCK_D); 0 where `is_row` is false."""
    column = tl.arange(0, BLOCK_D)[None, :]
    at = index.to(tl.int64)[:, None] * d_in + column
    return tl.load(matrix + at, mask=is_row[:, None] & (column < d_in), other=0.0)


@triton.jit
def _gradient(
    row,
    feature,
    tokenwise,
    pairs,
    l1_scale,
    d_in,
    BY_NORM: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Of the feature with decoder row `row`: dW_dec, dW_enc, db_enc, and its part of the L1 term.

    With the unit penalty, dW_dec is projected on the tangent space of the unit sphere.
    """
    centred, error = tokenwise
    offsets, tokens, _, acts = pairs
    norm = tl.sqrt(tl.sum(row * row))
    l1_weight = norm if BY_NORM else 1.0
    dW_dec = tl.zeros((BLOCK_D,), tl.float32)
    dW_enc = tl.zeros((BLOCK_D,), tl.float32)
    db_enc, summed_acts = 0.0, 0.0
    end = tl.load(offsets + feature + 1)
    for start in range(tl.load(offsets + feature), end, TILE):
        pair = start + tl.arange(0, TILE)
        act = tl.load(acts + pair, mask=pair < end, other=0.0)
        token = tl.load(tokens + pair, mask=act > 0, other=0)
        errors = _rows(error, token, act > 0, d_in, BLOCK_D)
        x = _rows(centred, token, act > 0, d_in, BLOCK_D)
        dact = tl.sum(errors * row[None, :], axis=1) + l1_scale * l1_weight
        dact = tl.where(act > 0, dact, 0.0)
        dW_dec += tl.sum(errors * act[:, None], axis=0)
        dW_enc += tl.sum(x * dact[:, None], axis=0)
        db_enc += tl.sum(dact)
        summed_acts += tl.sum(act)
    if BY_NORM:
        dW_dec += l1_scale * summed_acts * row / tl.maximum(norm, 1e-12)
    else:
        dW_dec -= tl.sum(dW_dec * row) * row
    return dW_dec, dW_enc, db_enc, summed_acts * l1_weight


@triton.jit
def _load(trained, at, mask):
    """Value and both moments."""
    value = tl.load(trained[0] + at, mask=mask, other=0.0)
    exp_avg = tl.load(trained[1] + at, mask=mask, other=0.0)
    return value, exp_avg, tl.load(trained[2] + at, mask=mask, other=0.0)


@triton.jit
def _adam(trained, loaded, gradient, at, mask, rates):
    """Store the new moments; the new value, as torch's fused Adam computes it."""
    exp_avg = loaded[1] + (gradient - loaded[1]) * (1 - BETA1)
    exp_avg_sq = loaded[2] * BETA2 + gradient * gradient * (1 - BETA2)
    tl.store(trained[1] + at, exp_avg, mask=mask)
    tl.store(trained[2] + at, exp_avg_sq, mask=mask)
    return loaded[0] - rates[1] * exp_avg / (tl.sqrt(exp_avg_sq) / rates[2] + EPSILON)
