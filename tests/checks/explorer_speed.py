"""`make explorer-speed`: the explorer in a real browser, over a small chain and one of real size.

A synthetic life store of 512 features by 30 links, and one of 65,536 by 29 (2 GB; made once, in the
cache), are served by the explorer's own server. A headless Chromium then measures what a person
waits for. The exit status is 1 if something takes longer, or more memory, than it may.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Page, sync_playwright

from saetrack.utils.settings import load_settings
from tests.support.explorer_demo import FORWARD, free_port
from tests.support.life_store import write_store

SIZES = {"mini": (512, 30, 400), "real": (65_536, 29, 8_192)}
PAINT_MS, SLIDER_MS, FEATURE_MS, SERVER_GB = 1000.0, 50.0, 200.0, 1.0
FRAME_MS = 50.0  # of two, with rows that were not seen before
# All panels, the server having opened the store for the first time.
WHOLE_MS = {"mini": 1000.0, "real": 2000.0}


@dataclass(frozen=True)
class Measured:
    """One number beside what it may be."""

    what: str
    value: float
    may_be: float
    unit: str

    @property
    def holds(self) -> bool:
        """Whether it is within its budget."""
        return self.value <= self.may_be


def store_of(size: str) -> Path:
    """A folder with the stores that the demonstration serves."""
    d_sae, links, rows = SIZES[size]
    folder = load_settings().cache_dir / "explorer-speed" / size
    if not (folder / FORWARD / "chain.json").exists():
        say(f"{size}: making a store of {d_sae:,} features by {links} links, once")
        shutil.rmtree(folder, ignore_errors=True)
        write_store(folder / FORWARD, d_sae=d_sae, links=links, rows=rows, name=FORWARD)
    return folder


def measure(size: str, page: Page, address: str) -> list[Measured]:
    """What a person waits for, medians of several times."""
    page.goto("about:blank")
    page.goto(f"{address}/#/{FORWARD}?step=145")
    page.wait_for_selector("[data-link]")
    page.wait_for_timeout(500)
    shown_ms = float(page.evaluate("performance.getEntriesByName('shown')[0].startTime"))
    paints = page.evaluate("performance.getEntriesByType('paint').map(paint => paint.startTime)")
    page.wait_for_timeout(4000)  # the labels of all links come in
    slider_ms = [timed(page, STEP, forward) for forward in TO_AND_FRO]
    scroll_ms = page.evaluate(SCROLL)
    features = [7, 4096, 40_000, 65_000] if size == "real" else [7, 90, 300, 500]
    feature_ms = [timed(page, FEATURE, f"#/{FORWARD}/{feature}?step=145") for feature in features]
    on_feature_ms = [timed(page, STEP, forward) for forward in TO_AND_FRO]
    middle = statistics.median
    return [
        Measured(f"{size}: a chain's first paint", min(paints), PAINT_MS, "ms"),
        Measured(f"{size}: a chain with all its panels", shown_ms, WHOLE_MS[size], "ms"),
        Measured(f"{size}: a step of the slider", middle(slider_ms), SLIDER_MS, "ms"),
        Measured(f"{size}: a frame of scrolling the table", middle(scroll_ms), FRAME_MS, "ms"),
        Measured(f"{size}: a feature's page", middle(feature_ms), FEATURE_MS, "ms"),
        Measured(f"{size}: a step on a feature's page", middle(on_feature_ms), SLIDER_MS, "ms"),
    ]


TO_AND_FRO = (True, True, True, False, False, False) * 2

# From the key until the browser has laid out and painted the frame in which every panel is that of
# the new step: a page says which step its panels show in the frame that draws the last of them.
STEP = """forward => new Promise(resolve => {
    const began = performance.now();
    const shown = new MutationObserver(() => {
        shown.disconnect();
        setTimeout(() => resolve(performance.now() - began));
    });
    shown.observe(document.querySelector('[data-link]'), {attributeFilter: ['data-link']});
    document.body.dispatchEvent(new KeyboardEvent('keydown',
        {key: forward ? 'ArrowRight' : 'ArrowLeft', bubbles: true}));
})"""
FEATURE = """hash => new Promise(resolve => {
    const began = performance.now();
    location.hash = hash;
    const number = /\\/(\\d+)\\?/.exec(hash)[1];
    const is = () => document.querySelector('h1')?.textContent === `Feature ${number}`
        && document.querySelector('.context-list li');
    const done = () => is()
        ? requestAnimationFrame(() => resolve(performance.now() - began)) : setTimeout(done, 1);
    done();
})"""
SCROLL = """async () => {
    const table = document.querySelector('.table-scroll');
    const times = [];
    for (let at = 0; at < 60; at++) {
        const began = performance.now();
        table.scrollTop += 1700;
        await new Promise(requestAnimationFrame);
        await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
        times.push(performance.now() - began);
    }
    return times;
}"""


def timed(page: Page, script: str, given: Any) -> float:
    """Milliseconds that a script in the page measures; the page rests before it."""
    page.wait_for_timeout(400)
    return float(page.evaluate(script, given))


def of_size(size: str, browser: Any) -> list[Measured]:
    """Serve a store and measure."""
    port = free_port()
    command = [sys.executable, "-m", "tests.support.explorer_demo", str(port), str(store_of(size))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            page = browser.new_page(viewport={"width": 1440, "height": 960})
            wait_for(page, address)
            found = measure(size, page, address)
            page.close()
            used_gb = psutil.Process(server.pid).memory_info().rss / 1e9
        finally:
            server.terminate()
    return [*found, Measured(f"{size}: memory of the server", used_gb, SERVER_GB, "GB")]


def wait_for(page: Page, address: str) -> None:
    """Until the server answers."""
    for _ in range(100):
        try:
            page.goto(address)
        except Exception:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"{address} does not answer")


def say(line: str) -> None:
    """Tell whoever waits."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Measure both sizes; the exit status."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        say("there is no chromium on this machine (apt install chromium)")
        return 1
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        found = [measured for size in SIZES for measured in of_size(size, browser)]
        browser.close()
    for one in found:
        verdict = "" if one.holds else "   TOO MUCH"
        say(f"{one.what:40} {one.value:8.2f} {one.unit}, may be {one.may_be:g}{verdict}")
    return 0 if all(one.holds for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
