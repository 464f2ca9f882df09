"""The explorer without a registry: `python -m tests.support.explorer_demo [PORT] [FOLDER]`.

Two synthetic chains of which the second grows, a conventional SAE, and a chain that was not
analysed. FOLDER holds the two stores; without, they are made in a folder of their own.
"""

from __future__ import annotations

import json
import math
import socket
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from saetrack.analysis.life_store.manifest import Manifest
from saetrack.lm.token_texts import TokenText
from saetrack.registry.cards import AnalysisCard, ChainCard, RunAt
from saetrack.utils.errors import UserError

FORWARD, SECOND = "demo.L2.forward.s0.aaaa", "demo.L2.forward.s1.bbbb"
CONVENTIONAL, PLAIN = "demo.L2.conventional.s0.cccc", "other.L1.reverse.s0.dddd"


def card(name: str, lm_steps: list[int], **changes: Any) -> ChainCard:
    """A plausible chain at some LM steps."""
    lm, layer, direction, seed, _ = name.split(".")
    risen = [1 - math.exp(-step / 100) for step in lm_steps]
    links: dict[str, list[float | int | None]] = {
        "lm_step": list(lm_steps),
        "tokens": [200_000] * len(lm_steps),
        "explained_variance": [0.9 - 0.2 * part for part in risen],
        "l0": [10 + 22 * part for part in risen],
        "dead": [0.3 - 0.25 * part for part in risen],
        "ce_loss_recovered": [None, *(0.8 + 0.15 * part for part in risen[1:])],
        "nats_lost": [0.02 + 0.1 * part for part in risen],
    }
    return replace(
        ChainCard(
            name=name,
            lm=lm,
            hook=f"resid_pre.{layer[1:]}",
            layer=int(layer[1:]),
            architecture="relu",
            direction=direction,
            seed=int(seed[1:]),
            d_sae=512,
            registered=len(lm_steps),
            planned=len(lm_steps),
            is_training=False,
            changed_ms=1_700_000_000_000,
            warnings=0,
            links=links,
            run=RunAt("1", "r" + name[-4:]),
            analysis=None,
        ),
        **changes,
    )


@dataclass
class DemoChains:
    """Chains from a list of cards, and stores from folders, in place of a registry."""

    shown: list[ChainCard]
    stores: dict[str, Path] = field(default_factory=dict)
    asked: int = 0
    explained: list[dict[str, Any]] = field(default_factory=list)

    def cards(self) -> list[ChainCard]:
        self.asked += 1
        return self.shown

    def lives(self, name: str) -> Path | None:
        return self.stores.get(name)

    def explanations(self, manifest: Manifest) -> list[dict[str, Any]]:
        links = len(manifest.links)
        return [one for one in self.explained if len(one["detection"]) == links]

    def token_texts(self, name: str, text: str) -> list[TokenText]:
        return [TokenText(token, None) for token in text.split()]

    def activations(self, name: str, text: str, lm_step: int) -> pd.DataFrame:
        if name not in self.stores:
            raise UserError(f"chain={name!r}: its LM cannot be loaded: it is a demonstration's")
        tokens = text.split()
        noise = np.random.default_rng([len(text), lm_step]).normal(-1, 1, (len(tokens), 512))
        return pd.DataFrame(noise.clip(0), index=pd.Index(tokens, name="token"))


class GrowingChains(DemoChains):
    """The second chain has one more link every ten seconds."""

    began_s = time.monotonic()

    def cards(self) -> list[ChainCard]:
        grown = 3 + int((time.monotonic() - self.began_s) / 10)
        steps = [2**power for power in range(min(grown, 12))]
        growing = card(SECOND, steps, planned=12, is_training=grown < 12)
        return [growing, *super().cards()]


def manifest_steps(store: Path) -> list[int]:
    links = json.loads((store / "chain.json").read_text())["links"]
    return [link["lm_step"] for link in links]


def demo(folder: Path) -> DemoChains:
    """Stores are made where the folder lacks them."""
    from tests.support.life_store import write_store

    stores = {}
    for seed, name in enumerate((FORWARD, SECOND)):
        stores[name] = folder / name
        if not stores[name].exists():
            write_store(stores[name], d_sae=512, links=8, rows=200, name=name, seed=seed)
    analysis = AnalysisCard(RunAt("1", "analysis"), ("figures/labels.png",), has_lives=True)
    cards = [
        card(FORWARD, manifest_steps(stores[FORWARD]), analysis=analysis, warnings=1),
        card(CONVENTIONAL, [2048]),
        card(PLAIN, [0, 16, 256]),
    ]
    return GrowingChains(cards, stores, explained=demo_explanations(8))


def demo_explanations(links: int) -> list[dict[str, Any]]:
    """One that holds at some links, one that holds nowhere, one that is markup."""
    said = (
        ("names of rivers", "concept", 2),
        ("nothing", "contextual", None),
        ("<b>x</b>", "token", 0),
    )
    return [
        {
            "feature": feature,
            "text": text,
            "label": label,
            "explainer": "rules",
            "place": "last",
            "at": links - 1,
            "since": since,
            "until": None if since is None else links - 1,
            "detection": [50 if link < (since or 0) else 90 for link in range(links)],
            "fuzzing": [None, *([85] * (links - 1))],
            "shuffled": [50] * links,
            "is_judged": True,
            "directions_hold": [None, *([40] * (links - 1))],
            "threshold": 62.5,
            "run": {
                "id": "0a1b2c3d4e5f",
                "begun": "2026-01-02T03:04:05.000Z",
                "explained": 3,
                "is_of_shown": True,
            },
        }
        for feature, (text, label, since) in zip((3, 5, 7), said, strict=True)
    ]


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(port: int, folder: str | None) -> None:
    import uvicorn

    from saetrack.explorer.addresses import Servers
    from saetrack.explorer.app import make_app

    with tempfile.TemporaryDirectory() as made:
        app = make_app(demo(Path(folder or made)), servers=Servers("5000", "4200"))
        sys.stdout.write(f"http://127.0.0.1:{port}\n")
        sys.stdout.flush()
        uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 8400, sys.argv[2] if len(sys.argv) > 2 else None
    )
