"""A static site of one chain: the same page, and what a server would answer, in files.

Any web server shows it. Features come in blocks of BLOCK, since a file each would be too many.
"""

from __future__ import annotations

import gzip
import logging
import re
import shutil
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from saetrack.explorer.answers import (
    OF_CHAIN,
    column_bytes,
    column_names,
    contexts_facts,
    feature_json,
)
from saetrack.explorer.app import PAGE, SITE_FILE
from saetrack.explorer.chain_answer import analysed_json
from saetrack.explorer.home import home_json
from saetrack.explorer.responses import no_page
from saetrack.explorer.search import as_json
from saetrack.explorer.static_search import SiteIndex, held, site_index
from saetrack.utils.errors import UserError
from saetrack.utils.files import whole_folder

if TYPE_CHECKING:
    from saetrack.analysis.life_store.reader import LifeStore
    from saetrack.explorer.addresses import Servers
    from saetrack.explorer.open_stores import OpenStore
    from saetrack.registry.cards import ChainCard

log = logging.getLogger(__name__)

# By which features are kept where not all are.
RULE = "those that fire at most links, of equals most often"
BLOCK = 32
LEVEL = 6
SAMPLED = 64  # features from which the size of all is estimated


@dataclass(frozen=True)
class SitePlan:
    """What a site will hold.

    Attributes:
        card: of the chain.
        store: its life store.
        features: that are kept, ascending.
        contexts: kept of each feature at each link; None: all.
        cards: of the registry, among them the chains whose features are matched.
        explanations: of all features of the chain.
    """

    card: ChainCard
    store: OpenStore
    features: tuple[int, ...]
    contexts: int | None
    cards: tuple[ChainCard, ...]
    explanations: Sequence[dict[str, Any]] = ()

    @property
    def kept_features(self) -> dict[str, int]:
        """How many features are kept, of how many."""
        return {"features": len(self.features), "of": self.store.lives.manifest.d_sae}

    @property
    def kept_explanations(self) -> list[dict[str, Any]]:
        """Of the features that are kept."""
        kept = set(self.features)
        return [one for one in self.explanations if one["feature"] in kept]

    @property
    def blocks(self) -> list[int]:
        """The blocks that have a feature."""
        return sorted({feature // BLOCK for feature in self.features})

    def block(self, number: int) -> bytes:
        """The features of a block: an object of the server's answers, by feature."""
        first, end = (bisect_left(self.features, edge * BLOCK) for edge in (number, number + 1))
        of_block = self.features[first:end]
        parts = [b'"%d":%b' % (feature, self.feature(feature)) for feature in of_block]
        return b"{%b}" % b",".join(parts)

    def feature(self, feature: int) -> bytes:
        """What the server answers, with as many contexts as are kept."""
        lives = self.store.lives
        life = feature_json(lives, feature, self.cards)
        if self.contexts is not None:
            life["contexts"] = contexts_facts(lives, self.contexts)
            for link in life["links"]:
                link["contexts"] = _spread(link["contexts"], self.contexts)
        return as_json(life)

    @cached_property
    def search_index(self) -> SiteIndex:
        """What the page searches contexts by; made once, for the size and for the files."""
        return site_index(self.store.lives, self.features, self.contexts)

    def planned_bytes(self) -> int:
        """About how large the site will be, from a few features and the columns of a few links."""
        lives = self.store.lives
        some = self.features[:: max(1, len(self.features) // SAMPLED)]
        packed = _packed(b",".join(self.feature(feature) for feature in some))
        of_features = len(packed) * len(self.features) / len(some)
        page = sum(path.stat().st_size for path in PAGE.rglob("*") if path.is_file())
        n_links = len(lives.manifest.links)
        # Not the last one: there a cosine to the final direction is 1, which takes no room.
        sampled = {str(link) for link in range(n_links // 4, n_links, max(1, n_links // 3))}
        sizes = {OF_CHAIN: 0, **dict.fromkeys(sampled, 0)}
        for link, name in _columns(lives):
            if link in sizes:
                sizes[link] += len(_packed(column_bytes(lives, link, name)))
        of_chain = sizes.pop(OF_CHAIN) + len(_packed(self.store.vocabulary_bytes()))
        of_links = sum(sizes.values()) / len(sizes) * n_links
        searched = sum(len(_packed(one.tobytes())) for one in self.search_index.arrays.values())
        explained = len(_packed(as_json(self.kept_explanations)))
        return int(page + of_features + of_chain + of_links + searched + explained)


def plan_site(
    card: ChainCard,
    store: OpenStore,
    *,
    features: int | None,
    contexts: int | None,
    cards: Sequence[ChainCard] = (),
    explanations: Sequence[dict[str, Any]] = (),
) -> SitePlan:
    """What a site of a chain will hold.

    Args:
        card: of the chain.
        store: its life store.
        features: how many (`RULE`); None: all.
        contexts: how many of each feature at each link, of each group in turn; None: all.
        cards: of the registry, by which a match says what its chain is.
        explanations: of the chain's features.

    Raises:
        UserError: a number is below 1, or the chain's name cannot be a folder's.
    """
    manifest = store.lives.manifest
    for name, value, most in (
        ("features", features, manifest.d_sae),
        ("contexts", contexts, manifest.contexts),
    ):
        if value is not None and value < 1:
            raise UserError(f"{name}={value}: must be 1 or more")
        if value is not None and value > most:
            log.info("%s=%d: there are %d, all are kept", name, value, most)
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", card.name):
        raise UserError(f"chain={card.name!r}: its name cannot be that of a folder")
    kept = np.arange(manifest.d_sae)
    if features is not None and features < manifest.d_sae:
        links = range(len(manifest.links))
        density = np.stack([store.lives.column(link, "feature_density") for link in links])
        order = np.lexsort((-density.mean(axis=0, dtype=float), -(density > 0).sum(axis=0)))
        kept = np.sort(order[:features])
    # What goes on just now is not what goes on when the site is looked at.
    card = replace(card, is_training=False, analysing=None)
    return SitePlan(card, store, tuple(kept.tolist()), contexts, (card, *cards), explanations)


def require_empty(folder: Path) -> None:
    """Check that a site can become a folder.

    Raises:
        UserError: something is there already.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"to={str(folder)!r}: is no folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"to={str(folder)!r}: must not hold anything yet")


def write_site(plan: SitePlan, servers: Servers, folder: Path) -> Iterator[int]:
    """Write a site; the folder is there only when it is whole.

    Args:
        plan: what it will hold.
        servers: whose addresses it names.
        folder: that it becomes; must not hold anything.

    Yields:
        How many features are written.

    Raises:
        UserError: something is in the folder already.
    """
    require_empty(folder)
    try:
        with whole_folder(folder) as draft:
            yield from _fill(draft, plan, servers)
            require_empty(folder)  # as it was when this began
    except OSError as error:
        raise UserError(f"to={str(folder)!r}: cannot be written ({error.strerror})") from None


def _fill(draft: Path, plan: SitePlan, servers: Servers) -> Iterator[int]:
    shutil.copytree(PAGE, draft, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__*__"))
    # Shown by many web servers for an address that there is not; most such addresses lie beside it.
    _write(draft / "404.html", no_page("./").encode())
    _write(draft / SITE_FILE, as_json(_site_json(plan)))
    _write(draft / "api" / "home.json", as_json(_home_json(plan, servers)))
    of_chain, lives = draft / "api" / "chains" / plan.card.name, plan.store.lives
    manifest = analysed_json(plan.store, plan.card, plan.cards)
    _write(of_chain / "chain.json", as_json(manifest))
    _write(of_chain / "vocabulary.json.gz", _packed(plan.store.vocabulary_bytes()))
    explained = _packed(as_json(plan.kept_explanations))
    _write(of_chain / "explanations.json.gz", explained)
    for link, name in _columns(lives):
        content = _packed(column_bytes(lives, link, name))
        _write(of_chain / "columns" / link / f"{name}.bin.gz", content)
    for number in plan.blocks:
        _write(of_chain / "features" / f"{number}.json.gz", _packed(plan.block(number)))
        yield bisect_left(plan.features, (number + 1) * BLOCK)
    index = plan.search_index
    _write(of_chain / "search" / "index.json", as_json(index.facts()))
    for name, values in index.arrays.items():
        _write(of_chain / "search" / f"{name}.bin.gz", _packed(values.tobytes()))
    for made in (draft, *(path for path in draft.rglob("*") if path.is_dir())):
        made.chmod(0o755)  # a web server is another user


def _site_json(plan: SitePlan) -> dict[str, Any]:
    lives, kept = plan.store.lives, plan.kept_features
    contexts = contexts_facts(lives, plan.contexts or lives.manifest.contexts)
    of_chain = {
        "features": None if kept["features"] == kept["of"] else plan.features,
        "contexts": plan.contexts,
        "kept": {**kept, "rule": RULE, "contexts": contexts},
    }
    return {"static": True, "block": BLOCK, "chains": {plan.card.name: of_chain}}


def _home_json(plan: SitePlan, servers: Servers) -> dict[str, Any]:
    home = home_json([plan.card], servers, static=True)
    (card,) = home["chains"]
    card["kept"] = plan.kept_features
    return home


def _columns(lives: LifeStore) -> Iterator[tuple[str, str]]:
    for link in range(len(lives.manifest.links)):
        for name in column_names(lives, of_chain=False):
            yield str(link), name
    for name in column_names(lives, of_chain=True):
        yield OF_CHAIN, name


def _spread(contexts: list[dict[str, Any]], wanted: int) -> list[dict[str, Any]]:
    """As many contexts as are wanted, of each group in turn, in their order."""
    groups = np.array([[context["group"] for context in contexts]], np.int64)
    (kept,) = held(groups, np.ones(groups.shape, bool), wanted)
    return [contexts[number] for number in np.flatnonzero(kept).tolist()]


def _packed(content: bytes) -> bytes:
    return gzip.compress(content, LEVEL, mtime=0)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def size_of(folder: Path) -> tuple[int, int]:
    """Bytes and number of a folder's files."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(sizes), len(sizes)
