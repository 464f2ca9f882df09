"""The sparse step on a GPU: the mathematics of `sparse.py` and Adam in a handful of kernels.

    product   W_enc^T (x - b_dec)^T, some features at a time                      torch
    mark      one bit per (feature, token): may it be active?
    fill      the marked pairs as lists, feature by feature
    acts      their exact activations
    decode    sae_out, token by token
    error     gradient of the reconstruction term by sae_out                      torch
    update    gradient, projection, Adam, unit rows, feature by feature

Weights and moments cross the memory bus once each way; no gradient matrix exists.

The lists have room for an estimated number of pairs. The true number is copied to the host while
the rest of the step is being queued. If it is larger, nothing was written, and everything after the
search is queued again. So the host waits for the middle of the step at most, while the GPU still
has the second half to do, and results do not depend on the estimate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import triton

from saetrack.sae.config import EncoderPrecision, ReLUConfig
from saetrack.sae.kernels import triton_kernels as kernels
from saetrack.sae.loss import Losses, losses, reconstruction_error
from saetrack.utils.timing import part

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from saetrack.sae.adam import Adam
    from saetrack.sae.model import SAE

# Bytes of the product that exist at a time: they are read again while they are in the GPU's cache.
PRODUCT_BYTES = 2**25

# The product's largest error, as a share of the two norms' product: bfloat16 rounds either input by
# up to 2^-9, and a quarter is added for the summation. This also covers the rounding of the product
# itself, 2^-9 of the bias where it matters. Every pair that is so close to being active is marked,
# so that none is missed; one that is not active costs a dot product and gets the activation 0.
SLACK = {"float32": 0.0, "bfloat16": 1.25 * 2**-8}

# Tokens that a program takes at a time if it goes through the whole batch.
BLOCK_TOKENS = 1024

# Features that one program of the update kernel takes; each program writes one row of d_in numbers.
GROUP = 16

# The smallest number of pairs for which room is made.
MIN_ROOM = 2**16


class _Pairs(NamedTuple):
    """See `triton_kernels`."""

    offsets: Int[Tensor, " d_sae_and_one"]
    tokens: Int[Tensor, " room"]
    features: Int[Tensor, " room"]
    feature_acts: Float[Tensor, " room"]


class FusedStep:
    """One SAE's sparse step: forward, backward, update in place.

    Attributes:
        marked: how many pairs the last search marked; the estimate for the next one.
    """

    def __init__(
        self, sae: SAE, sae_config: ReLUConfig, adam: Adam, precision: EncoderPrecision
    ) -> None:
        """Without effect so far.

        Args:
            sae: on a GPU.
            sae_config: what to minimise.
            adam: of this SAE.
            precision: of the product; activations and gradients are float32 in any case.
        """
        assert all(parameter.is_contiguous() for parameter in adam.parameters.values())
        self.marked = 0
        self._sae = sae
        self._sae_config = sae_config
        self._adam = adam
        self._precision: EncoderPrecision = precision

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "batch d_in"]) -> tuple[Losses, int]:
        """Train on one batch, in a step that `adam` has begun.

        Returns:
            The losses, and how many (feature, token) pairs were active.
        """
        with torch.cuda.device_of(x):
            centred = (x - self._sae.b_dec).contiguous()
            words, offsets = self._search(centred)
            while True:
                room = triton.next_power_of_2(max(self.marked + self.marked // 4, MIN_ROOM))
                terms, counts = self._train_on(x, centred, words, offsets, room)
                self.marked, n_active = counts.read()
                if self.marked <= room:
                    return terms, n_active

    def _search(
        self, centred: Float[Tensor, "batch d_in"]
    ) -> tuple[Int[Tensor, "d_sae n_words"], Int[Tensor, " d_sae_and_one"]]:
        """Mark every pair that may be active, and say where each feature's pairs begin."""
        sae, batch = self._sae, len(centred)
        dtype = getattr(torch, self._precision)
        coarse, token_norms = centred.to(dtype).T, centred.norm(dim=1)
        words = centred.new_empty((sae.d_sae, triton.cdiv(batch, 32)), dtype=torch.int32)
        counts = centred.new_empty(sae.d_sae, dtype=torch.int32)
        size = max(1, PRODUCT_BYTES // (batch * dtype.itemsize))
        for start in range(0, sae.d_sae, size):
            features = slice(start, min(start + size, sae.d_sae))
            columns = sae.W_enc.T[features]
            product = columns.to(dtype) @ coarse
            kernels.mark_kernel[(len(product),)](
                product,
                sae.b_enc[features],
                (columns.norm(dim=1), token_norms),
                words[features],
                counts[features],
                batch,
                words.shape[1],
                SLACK[self._precision],
                BLOCK_WORDS=BLOCK_TOKENS // 32,
            )
        offsets = torch.zeros(sae.d_sae + 1, dtype=torch.int64, device=centred.device)
        torch.cumsum(counts, 0, out=offsets[1:])
        return words, offsets

    def _train_on(
        self,
        x: Float[Tensor, "batch d_in"],
        centred: Float[Tensor, "batch d_in"],
        words: Int[Tensor, "d_sae n_words"],
        offsets: Int[Tensor, " d_sae_and_one"],
        room: int,
    ) -> tuple[Losses, _OnHost]:
        """All that follows the search; without effect if more than `room` pairs were marked."""
        sae = self._sae
        sizes, tile = (sae.d_sae, sae.d_in, room), _tile(sae.d_in, 8)
        # What is not filled sorts behind the last token.
        tokens = offsets.new_full((room,), len(x), dtype=torch.int32)
        pairs = _Pairs(offsets, tokens, torch.zeros_like(tokens), centred.new_zeros(room))
        active_tokens = offsets.new_zeros(sae.d_sae, dtype=torch.int32)
        kernels.fill_kernel[(sae.d_sae,)](
            words, tuple(pairs), sizes, len(x), words.shape[1], BLOCK_TOKENS=BLOCK_TOKENS
        )
        kernels.act_kernel[(sae.d_sae,)](
            sae.W_enc.T, sae.b_enc, centred, tuple(pairs), active_tokens, sizes, **tile
        )
        counts = _OnHost(offsets[-1], active_tokens.sum())
        in_order, by_token = tokens.sort(stable=True)
        numbers = torch.arange(len(x) + 1, dtype=torch.int32, device=x.device)
        begins = torch.searchsorted(in_order, numbers, out_int32=True)
        sae_out = torch.empty_like(centred)
        kernels.decode_kernel[(len(x),)](
            sae.W_dec, sae.b_dec, tuple(pairs), (by_token, begins), sae_out, sizes, **tile
        )
        with torch.enable_grad():
            reconstruction = reconstruction_error(self._sae_config, x, sae_out.requires_grad_())
            (error,) = torch.autograd.grad(reconstruction, sae_out)
        with part("optimiser"):
            sparsity = self._update(centred, error.contiguous(), pairs)
        reconstruction = reconstruction.detach()
        return losses(reconstruction, sparsity, sparsity.new_zeros(())), counts

    def _update(
        self,
        centred: Float[Tensor, "batch d_in"],
        error: Float[Tensor, "batch d_in"],
        pairs: _Pairs,
    ) -> Float[Tensor, ""]:
        """Update parameters and moments; returns the penalty before the update."""
        sae, adam = self._sae, self._adam
        trained = {
            name: (parameter, adam.exp_avg[name], adam.exp_avg_sq[name])
            for name, parameter in adam.parameters.items()
        }
        sizes = (sae.d_sae, sae.d_in, len(pairs.tokens))
        rates = (self._sae_config.l1_coefficient / len(centred), *adam.scales())
        l1_terms = torch.empty_like(sae.b_enc)
        bias_shares = centred.new_empty((triton.cdiv(sae.d_sae, GROUP), sae.d_in))
        kernels.update_kernel[(len(bias_shares),)](
            trained["W_enc"],
            trained["b_enc"],
            trained["W_dec"],
            (centred, error),
            tuple(pairs),
            (l1_terms, bias_shares),
            sizes,
            rates,
            BY_NORM=self._sae_config.penalty == "decoder_norm",
            GROUP=GROUP,
            # Smaller than elsewhere: registers also hold the weights and the moments.
            **_tile(sae.d_in, 4 if sae.d_in <= 2048 else 2),
        )
        kernels.bias_kernel[(triton.cdiv(sae.d_in, 1024),)](
            trained["b_dec"],
            error.sum(dim=0) - bias_shares.sum(dim=0),
            pairs.offsets,
            sizes,
            rates,
            BLOCK=1024,
        )
        return self._sae_config.l1_coefficient / len(centred) * l1_terms.sum()


class _OnHost:
    """A few numbers that are being copied from the device to the host."""

    def __init__(self, *numbers: Tensor) -> None:
        # torch copies into page-locked memory, so that the copy runs beside the kernels.
        self._numbers = torch.stack(numbers).to("cpu", non_blocking=True)
        self._copied = torch.cuda.Event() if numbers[0].is_cuda else None
        if self._copied is not None:
            self._copied.record()

    def read(self) -> list[int]:
        """The numbers, once they have been copied."""
        if self._copied is not None:
            self._copied.synchronize()
        return [int(number) for number in self._numbers]


def _tile(d_in: int, pairs: int) -> dict[str, int]:
    """A kernel's sizes: `pairs` whole rows at a time, with four numbers of a row per thread."""
    width = max(triton.next_power_of_2(d_in), 16)
    return {"TILE": pairs, "BLOCK_D": width, "num_warps": min(max(width // 128, 1), 16)}
