"""The explorer's page in a real browser: first paint, a step of the slider, a feature, scrolling.

python -m benchmarks.explorer STORE [STEPS]

STORE is a life store, such as `python -m tests.support.life_store STORE 65536 29` writes. It is
served as `saetrack explore` serves it, by a process of its own whose memory is reported too.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]

# From a key that is pressed to the frame that shows what it did.
STEP = """async (key) => {
  const settled = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  await settled();
  const shown = () => document.querySelector("[data-link]").dataset.link;
  const before = shown();
  const began = performance.now();
  dispatchEvent(new KeyboardEvent("keydown", {key}));
  do await settled(); while (shown() === before);
  return performance.now() - began;
}"""
FEATURE = """async (at) => {
  const began = performance.now();
  location.hash = at;
  const number = at.split("/")[2].split("?")[0];
  const is = () => document.querySelector("h1")?.textContent === `Feature ${number}`
    && document.querySelector(".context-list li");
  while (!is()) await new Promise(requestAnimationFrame);
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - began;
}"""
SCROLL = """async () => {
  const table = document.querySelector(".table-scroll");
  const times = [];
  for (let at = 0; at < 60; at++) {
    const began = performance.now();
    table.scrollTop += 1700;
    await new Promise(requestAnimationFrame);
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    times.push(performance.now() - began);
  }
  return times;
}"""


@dataclass(frozen=True)
class OneChain:
    """A store as the only chain of a registry."""

    name: str
    folder: Path

    def cards(self) -> list[Any]:
        """No cards: only the chain's pages are opened."""
        return []

    def lives(self, name: str) -> Path | None:
        """Where the store lies."""
        return self.folder if name == self.name else None

    def activations(self, name: str, text: str, lm_step: int) -> Any:
        """No LM."""
        raise NotImplementedError


def serve(chains: OneChain, listening: Any) -> None:
    """Serve until the process is ended."""
    import uvicorn

    from saetrack.explorer.app import make_app

    app = make_app(chains)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listening])


def line(title: str, times_ms: list[float], limit_ms: float) -> None:
    """Median, largest and what it should be."""
    middle, most = statistics.median(times_ms), max(times_ms)
    sys.stdout.write(
        f"{title:34} median {middle:7.0f} ms  largest {most:7.0f}  of {limit_ms:.0f}\n"
    )
    sys.stdout.flush()


def measure(browser: Any, at: str, d_sae: int, steps: int) -> None:
    """Print a line for each thing that a user waits for."""
    paints = []
    for _ in range(3):
        page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
        page.goto(at)
        page.locator("table.features tbody tr[data-feature]").first.wait_for()
        paints.append(page.evaluate("performance.getEntriesByName('shown')[0].startTime"))
    line("first paint of the chain, cold", paints, 1000)
    page.wait_for_timeout(4000)  # the columns of the labels' ribbon come in
    line("slider, first visit", [page.evaluate(STEP, "ArrowLeft") for _ in range(steps)], 50)
    line("slider, again", [page.evaluate(STEP, "ArrowRight") for _ in range(steps)], 50)
    page.locator('[data-sort="feature_density"]').click()
    page.wait_for_timeout(500)
    line("slider, sorted by density", [page.evaluate(STEP, "ArrowLeft") for _ in range(steps)], 50)
    line("a frame of scrolling the table", page.evaluate(SCROLL), 33)
    chain = "#" + at.partition("#")[2]
    features = [number * 7919 % d_sae for number in range(1, 13)]
    line("feature page", [page.evaluate(FEATURE, f"{chain}/{one}") for one in features], 200)
    line("slider on a feature", [page.evaluate(STEP, "ArrowLeft") for _ in range(steps)], 50)


def main(folder: Path, steps: int) -> None:
    """Serve a store and look at it."""
    from playwright.sync_api import sync_playwright

    from saetrack.explorer.serving import bind

    manifest = json.loads((folder / "chain.json").read_text())
    listening = bind("127.0.0.1", 0)
    chains = OneChain(manifest["name"], folder)
    process = multiprocessing.get_context("fork").Process(target=serve, args=(chains, listening))
    process.start()
    at = f"http://127.0.0.1:{listening.getsockname()[1]}/#/{chains.name}"
    try:
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            measure(browser, at, manifest["d_sae"], steps)
            browser.close()
        megabytes = psutil.Process(process.pid).memory_info().rss / 1e6
        sys.stdout.write(f"{'memory of the server':34} {megabytes:.0f} MB\n")
    finally:
        process.terminate()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 12)
