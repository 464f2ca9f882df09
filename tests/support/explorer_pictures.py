"""Pictures of every view of the explorer: `python -m tests.support.explorer_pictures FOLDER CHAIN`.

`make explorer-pictures` makes those in the documentation, from an analysed chain of the registry.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from playwright.sync_api import sync_playwright

SIZE, PHONE = {"width": 1360, "height": 900}, {"width": 390, "height": 844}
TEXT = "def main(argv):\n    return open(argv[0], encoding='utf-8').read()"
MEANT = ("concept", "weak_concept", "token")


def views(chain: str, manifest: dict[str, Any], feature: int) -> dict[str, str]:
    """The address of each picture, below the explorer's own."""
    steps = [link["lm_step"] for link in manifest["links"]]
    middle, last = steps[len(steps) // 2], steps[-1]
    at = f"#/{quote(chain)}"
    return {
        "home": "#/",
        "chain": f"{at}?step={middle}",
        "drift": f"{at}?step={middle}&colour=cosine_to_final&distribution=cosine_to_final",
        "feature": f"{at}/{feature}?step={last}",
        "two_steps": f"{at}/{feature}?step={last}&beside={middle}",
        "search": f"{at}/search?q=self",
        "own_text": f"{at}/text?steps={steps[0]},{middle},{last}&text={quote(TEXT)}",
        "phone": f"{at}/{feature}?step={last}",
    }


def chosen_feature(api: str, manifest: dict[str, Any]) -> int:
    """One that formed in the middle of training and is a concept at the end, if there is any."""
    labels, last = manifest["labels"], len(manifest["links"]) - 1
    at_last = requests.get(f"{api}/columns/{last}/label.bin", timeout=60).content
    formed = requests.get(f"{api}/columns/chain/formation_link.bin", timeout=60).content
    links = [
        int.from_bytes(formed[i : i + 2], "little", signed=True) for i in range(0, len(formed), 2)
    ]
    for meant in MEANT:
        found = [
            f for f, label in enumerate(at_last) if labels[label] == meant and links[f] > last // 4
        ]
        if found:
            return found[0]
    return 0


def draw(address: str, chain: str, folder: Path, chromium: str) -> list[Path]:
    """Take all pictures."""
    api = f"{address}api/chains/{quote(chain)}"
    manifest = requests.get(f"{api}/chain.json", timeout=60).json()
    folder.mkdir(parents=True, exist_ok=True)
    taken = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        feature = chosen_feature(api, manifest)
        for name, rest in views(chain, manifest, feature).items():
            page = browser.new_page(viewport=PHONE if name == "phone" else SIZE)
            page.goto(address + rest)
            ready = "table.own tbody" if name == "own_text" else "main h1"
            page.wait_for_selector(ready, timeout=120_000)
            page.wait_for_timeout(1500)
            taken.append(folder / f"{name}.png")
            page.screenshot(path=taken[-1])
            page.close()
        browser.close()
    return taken


def main(folder: str, chain: str) -> None:
    """Serve the registry's chains and take the pictures."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("there is no chromium on this machine (apt install chromium)")
    command = [sys.executable, "-m", "saetrack.cli", "explore", chain, "--port", "0"]
    with subprocess.Popen([*command, "--no-browser"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            root, _, name = server.stdout.readline().strip().partition("#/")
            for path in draw(root, requests.utils.unquote(name), Path(folder), chromium):
                sys.stdout.write(f"{path}\n")
        finally:
            server.terminate()


if __name__ == "__main__":
    main(*sys.argv[1:])
