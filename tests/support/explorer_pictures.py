"""`make explorer-pictures`: pictures of each of the explorer's pages, of a chain in the registry.

python -m tests.support.explorer_pictures FOLDER CHAIN

The chain must be analysed. A picture is written with few colours, so that it stays small.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import requests

from tests.support.chromium import ABSENT, ARGUMENTS, CHROMIUM

LAPTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
COLOURS = 256
TEXT = (
    "num_layers (`int`, *optional*, defaults to 12):\n    Number of hidden layers in the encoder."
)
MEANT = ("concept", "weak_concept", "token")


@dataclass(frozen=True)
class View:
    """An address of the explorer, and how it is looked at."""

    address: str
    size: dict[str, int]
    theme: str = "light"


def views(chain: str, manifest: dict[str, Any], feature: int, others: list[str]) -> dict[str, View]:
    """Each picture by its name."""
    steps = [link["lm_step"] for link in manifest["links"]]
    middle, last = steps[len(steps) // 2], steps[-1]
    at = f"#/{quote(chain)}"
    own = f"text?steps={steps[0]},{middle},{last}&features=5&text={quote(TEXT)}"
    moved = "colour=formation_step&show=cosine_to_first"
    return {
        "home": View(f"#/?with={','.join([chain, *others[:2]])}", LAPTOP),
        "chain": View(f"{at}?step={middle}", LAPTOP),
        "chain-dark": View(f"{at}?step={middle}&{moved}", LAPTOP, "dark"),
        "feature": View(f"{at}/{feature}?step={last}", LAPTOP),
        "two-steps": View(f"{at}/{feature}?step={last}&beside={middle}", LAPTOP),
        "search": View(f"{at}/search?q=default", LAPTOP),
        "own-text": View(f"{at}/{own}", LAPTOP),
        "phone": View(f"{at}/{feature}?step={last}", PHONE),
    }


def chosen_feature(api: str, manifest: dict[str, Any]) -> int:
    """One that formed late and is a concept at the end, if there is any."""
    labels, last = manifest["labels"], len(manifest["links"]) - 1
    at_last = column(f"{api}/columns/{last}/label.bin", "u1")
    formed = column(f"{api}/columns/chain/formation_link.bin", "<i2")
    for meant in MEANT:
        late = np.flatnonzero((at_last == labels.index(meant)) & (formed > last // 4))
        if len(late):
            return int(late[0])
    return 0


def column(address: str, dtype: str) -> np.ndarray:
    """One value for each feature."""
    return np.frombuffer(requests.get(address, timeout=60).content, dtype)


def take(address: str, chain: str, folder: Path) -> list[Path]:
    """Write a PNG of each view."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    api = f"{address}api/chains/{quote(chain)}"
    manifest = requests.get(f"{api}/chain.json", timeout=60).json()
    cards = requests.get(f"{address}api/home.json", timeout=60).json()["chains"]
    others = [card["name"] for card in cards if card["name"] != chain and not card["training"]]
    others.sort(key=lambda name: ".forward." not in name)
    shown = views(chain, manifest, chosen_feature(api, manifest), others)
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for name, view in shown.items():
            context = browser.new_context(
                viewport=view.size, color_scheme=view.theme, device_scale_factor=1.5
            )
            page = context.new_page()
            page.goto(address + view.address)
            ready = ".tokens-by-steps" if name == "own-text" else "#main > .page"
            page.locator(ready).wait_for(timeout=120_000)
            page.wait_for_timeout(2000)
            picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
            picture.quantize(
                COLOURS, method=Image.Quantize.MAXCOVERAGE, kmeans=4, dither=Image.Dither.NONE
            ).save(folder / f"{name}.png", optimize=True)
            context.close()
        browser.close()
    return [folder / f"{name}.png" for name in shown]


def main(folder: str, chain: str) -> None:
    """Serve the registry's chains and take the pictures."""
    if ABSENT:
        raise SystemExit(f"there is {ABSENT}")
    command = [sys.executable, "-m", "saetrack.cli", "explore", chain, "--port", "0"]
    with subprocess.Popen([*command, "--no-browser"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            root, _, name = server.stdout.readline().strip().partition("#/")
            for path in take(root, unquote(name), Path(folder)):
                sys.stdout.write(f"{path}\n")
        finally:
            server.terminate()


if __name__ == "__main__":
    main(*sys.argv[1:])
