"""The chains of the registry as cards: `home.json`."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from saetrack.explorer import own_text, search
from saetrack.explorer.addresses import Servers
from saetrack.explorer.links import in_lm_order, order_facts
from saetrack.registry.chain_names import find_chain
from saetrack.utils.errors import first_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from saetrack.explorer.chains import Chains
    from saetrack.registry.cards import ChainCard

# A page asks every few seconds: it is answered at once with what was found last, and what is older
# than this is looked up meanwhile, for the next time.
FRESH_S = 1.5
OLD_S = 10.0


class Cards:
    """The cards of a registry, looked up now and then, in a thread of its own."""

    def __init__(self, chains: Chains) -> None:
        """Asks nobody yet."""
        self._chains = chains
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._found: list[ChainCard] | None = None
        self._found_s = 0.0
        self._notice: str | None = None

    def get(self) -> tuple[list[ChainCard], str | None]:
        """The cards, and a line that says why they are old if the registry does not answer."""
        with self._lock:  # the first ones wait for the first answer
            age_s = time.monotonic() - self._found_s
            if self._found is None or age_s > OLD_S:
                self._look()
            elif age_s > FRESH_S and not self._looking.locked():
                threading.Thread(target=self._look, daemon=True).start()
            return self._found or [], self._notice

    def known(self) -> list[ChainCard]:
        """The cards that were found last, however long ago that was."""
        return self._found if self._found is not None else self.get()[0]

    def full_name(self, beginning: str) -> str:
        """The chain whose name begins so; what is given where no chain's does.

        Raises:
            UserError: several do.
        """
        for names in ([card.name for card in found()] for found in (self.known, self._now)):
            if beginning in names:
                return beginning
            if any(name.startswith(beginning) for name in names):
                return find_chain(names, beginning)
        return beginning

    def _now(self) -> list[ChainCard]:
        return self.get()[0]

    def _look(self) -> None:
        if not self._looking.acquire(blocking=False):
            return
        try:
            self._found, self._notice = self._chains.cards(), None
        except Exception as error:  # a server that is away for a moment; each driver has its own
            self._notice = f"the registry does not answer: {first_line(error)[:200]}"
        finally:
            self._found_s = time.monotonic()
            self._looking.release()


def home_json(
    cards: list[ChainCard], servers: Servers, *, static: bool, notice: str | None = None
) -> dict[str, Any]:
    """`home.json` as the page reads it.

    Args:
        cards: of all chains.
        servers: as the browser reaches them.
        static: of a static site, where nobody reads own texts.
        notice: what is wrong just now, a line.
    """
    return {
        "static": static,
        "own_text": not static,
        "own_text_characters": None if static else own_text.LONGEST,
        "search_characters": search.LONGEST,
        "servers": {"mlflow": servers.mlflow, "prefect": servers.prefect},
        "notice": notice,
        "chains": [card_json(card, servers) for card in cards],
    }


def card_json(card: ChainCard, servers: Servers) -> dict[str, Any]:
    """One chain of `home.json`."""
    figures = card.analysis.figures if card.analysis else ()
    return {
        "name": card.name,
        "lm": card.lm,
        "hook": card.hook,
        "layer": card.layer,
        "architecture": card.architecture,
        "direction": card.direction,
        "seed": card.seed,
        "d_sae": card.d_sae,
        "registered": card.registered,
        "planned": card.planned,
        "training": card.is_training,
        "changed": iso_time(card.changed_ms),
        "warnings": card.warnings,
        "conventional": card.direction == "conventional",
        "links": in_lm_order(card.links),
        **order_facts(card),
        "analysing": analysing_json(card),
        "mlflow": servers.run(card.run),
        "analysed": card.analysis is not None and card.analysis.has_lives,
        "analysis": None
        if card.analysis is None
        else {
            "mlflow": servers.run(card.analysis.run),
            "figures": [
                {"title": _title(path), "address": servers.run(card.analysis.run, path)}
                for path in figures
                if servers.mlflow
            ],
        },
    }


def card_of(cards: Iterable[ChainCard], name: str) -> ChainCard | None:
    """The card of a chain; None where there is none."""
    return next((card for card in cards if card.name == name), None)


def analysing_json(card: ChainCard | None) -> dict[str, str] | None:
    """The analysis of a chain that is being made, and since when."""
    if card is None or card.analysing is None:
        return None
    return {"run": card.analysing.run_id, "since": iso_time(card.analysing.since_ms)}


def iso_time(time_ms: int) -> str:
    """A time in milliseconds since 1970 as pages read it."""
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _title(path: str) -> str:
    words = PurePosixPath(path).stem.replace("_", " ")
    return words[:1].upper() + words[1:]
