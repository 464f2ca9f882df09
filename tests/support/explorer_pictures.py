"""Pictures of the explorer's pages.

python -m tests.support.explorer_pictures FOLDER [ADDRESS CHAIN FEATURE]

Without an address, of the demonstration's chains (`tests.support.explorer_demo`). A picture is made
at two pixels for one and written with few colours, so that it stays small.
"""

from __future__ import annotations

import sys
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

from tests.support.explorer_browser import ARGUMENTS, CHROMIUM, served
from tests.support.explorer_demo import CONVENTIONAL, FORWARD, SECOND, demo

LAPTOP, PHONE = (1280, 800), (390, 844)
COLOURS = 256
SENTENCE = "The ships left the harbour and the river was quiet"


def views(
    chain: str, feature: int, steps: tuple[int, int], ticked: str, word: str
) -> dict[str, Any]:
    """Address, size and theme of each picture."""
    first, last = steps
    own = f"text?text={SENTENCE.replace(' ', '%20')}&steps={first},{last}&features=5"
    return {
        "home": (f"#/?with={ticked}", LAPTOP, "light"),
        "chain": (f"#/{chain}", LAPTOP, "light"),
        "chain-dark": (f"#/{chain}?colour=formation_step&show=cosine_to_first", LAPTOP, "dark"),
        "feature": (f"#/{chain}/{feature}?step={last}", LAPTOP, "light"),
        "two-steps": (f"#/{chain}/{feature}?step={last}&beside={first}", LAPTOP, "light"),
        "search": (f"#/{chain}/search?q={word}", LAPTOP, "light"),
        "own-text": (f"#/{chain}/{own}", LAPTOP, "light"),
        "phone": (f"#/{chain}/{feature}?step={last}", PHONE, "light"),
    }


def take(address: str, shown: dict[str, Any], folder: Path) -> None:
    """Write a PNG of each view."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for name, (at, (width, height), theme) in shown.items():
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme=theme,
                device_scale_factor=1.5,
            )
            page = context.new_page()
            page.goto(address + at)
            page.locator("#main > .page").wait_for()
            page.wait_for_load_state("networkidle") if "home" not in name else None
            page.wait_for_timeout(1000)
            picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
            picture.quantize(
                COLOURS, method=Image.Quantize.MAXCOVERAGE, kmeans=4, dither=Image.Dither.NONE
            ).save(folder / f"{name}.png", optimize=True)
            context.close()
        browser.close()


def main(folder: Path, address: str | None, chain: str | None, feature: int) -> None:
    """Take the pictures of a server that runs, or of the demonstration's."""
    folder.mkdir(parents=True, exist_ok=True)
    if address and chain:
        take(address.rstrip("/") + "/", views(chain, feature, (0, 143_000), chain, "list"), folder)
        return
    with tempfile.TemporaryDirectory() as stores, served(demo(Path(stores))) as at:
        ticked = f"{FORWARD},{SECOND},{CONVENTIONAL}"
        take(at, views(FORWARD, 0, (0, 143_000), ticked, "river"), folder)


if __name__ == "__main__":
    address, chain, feature = (*sys.argv[2:5], "", "", "0")[:3] if sys.argv[2:] else ("", "", "0")
    main(Path(sys.argv[1]), address or None, chain or None, int(feature))
