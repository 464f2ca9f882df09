"""What a life store adds to the reading of a checkpoint: planted pairs, no LM.

python -m benchmarks.life_store [D_SAE] [TOKENS] [L0]
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from saetrack.analysis.contexts.top_contexts import Firings, TokenBatch, TopContexts
from saetrack.analysis.life_store.layout import planned_bytes
from saetrack.analysis.life_store.neighbours import nearest_neighbours
from saetrack.analysis.life_store.records import Text, link_records
from saetrack.analysis.life_store.spool import PairSpool
from saetrack.data.exclusion import Excluded

CONTEXT, VOCABULARY, BATCH_ROWS, D_IN = 128, 50_000, 32, 512


def main(d_sae: int, tokens: int, l0: int) -> None:
    """Print seconds for each part."""
    random = np.random.default_rng(0)
    rows = tokens // CONTEXT
    ids = (random.zipf(1.3, (rows, CONTEXT)) % VOCABULARY).astype(np.int64)
    excluded = Excluded((0,), 1)
    top = TopContexts(d_sae, 25, excluded=excluded)
    seconds = dict.fromkeys(("top contexts", "spool"), 0.0)
    with tempfile.TemporaryDirectory() as folder:
        spool = PairSpool(d_sae, Path(folder), excluded=excluded)
        shares = 1 / np.arange(1, d_sae + 1) ** 0.7
        for start in range(0, rows, BATCH_ROWS):
            batch = TokenBatch(
                np.arange(start, min(start + BATCH_ROWS, rows)), ids[start : start + BATCH_ROWS]
            )
            pairs = batch.token_ids.size * l0
            features = random.choice(d_sae, pairs, p=shares / shares.sum())
            key = np.unique(
                features * batch.token_ids.size + random.integers(0, pairs // l0, pairs)
            )
            fired = Firings(
                torch.from_numpy(key // batch.token_ids.size),
                torch.from_numpy(key % batch.token_ids.size),
                torch.from_numpy(random.exponential(size=len(key)).astype(np.float32)),
            )
            for name, collector in (("top contexts", top), ("spool", spool)):
                began_s = time.perf_counter()
                collector.add(fired, batch)
                seconds[name] += time.perf_counter() - began_s
        contexts = top.result()
        began_s = time.perf_counter()
        link_records(spool, contexts, Text(ids, excluded, VOCABULARY), 0)
        seconds["records"] = time.perf_counter() - began_s
    began_s = time.perf_counter()
    nearest_neighbours(torch.randn(d_sae, D_IN), contexts.fires > 0)
    seconds["neighbours"] = time.perf_counter() - began_s
    lines = [f"{name:>14} {spent_s:8.2f} s" for name, spent_s in seconds.items()]
    lines.append(
        f"{int(spool.counts.sum()):,} pairs; a link {planned_bytes(d_sae, 1) / 1e6:.0f} MB"
    )
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    sys.stdout.write("\n".join([*lines, f"peak memory {peak_gb:.2f} GB", ""]))


if __name__ == "__main__":
    given = [int(number) for number in sys.argv[1:]]
    main(*(given + [4096, 200_000, 30][len(given) :]))
