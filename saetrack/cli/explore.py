"""`saetrack explore [CHAIN]`: a feature's whole life, in a browser."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saetrack.cli.options import AsJson, ChainName, Quiet
from saetrack.cli.terminal import log_to_stderr, say
from saetrack.utils.errors import UserError
from saetrack.utils.ports import EXPLORER_PORT

if TYPE_CHECKING:
    from saetrack.explorer.addresses import Servers
    from saetrack.explorer.registry_chains import RegistryChains
    from saetrack.utils.settings import Settings

log = logging.getLogger(__name__)

Where = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS-OR-PORT",
        help="Where the pages link to: the server's address, or its port on this machine.",
    ),
]
MaybeChain = Annotated[str | None, ChainName.__metadata__[0]]
To = Annotated[
    Path | None,
    typer.Option(help="Write a static site of the chain into this folder, instead of serving."),
]
Features = Annotated[
    int | None,
    typer.Option(help="With --to: keep so many, those that fire at most links."),
]
Contexts = Annotated[
    int | None, typer.Option(help="With --to: keep so many of each feature at each link.")
]


def explore(
    chain: MaybeChain = None,
    to: To = None,
    features: Features = None,
    contexts: Contexts = None,
    port: Annotated[
        int, typer.Option(help="To serve at; 0 takes one that is free.")
    ] = EXPLORER_PORT,
    browser: Annotated[bool, typer.Option(help="Open the browser.")] = True,
    mlflow: Where = None,
    prefect: Where = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Look at features over training: all chains, one chain's features, each feature's life.

    Serves the pages on this machine until Ctrl-C, and opens the browser at the chain. What a
    feature means at each link is there once the chain was analysed (saetrack analyze).

    With --to, the pages of one analysed chain become a folder that any web server shows. They need
    no Python and no registry; only one's own text cannot be read there.

    ```sh
    saetrack explore
    saetrack explore mini.L2.forward
    saetrack explore mini.L2.forward --to site --features 500
    ```
    """
    log_to_stderr(quiet=quiet, verbose=False)
    if to is None and (features is not None or contexts is not None):
        raise UserError("explore: --features and --contexts are for a static site, with --to")
    if to is not None and chain is None:
        raise UserError("explore: --to needs the name of a chain (saetrack chains)")
    log.info("opening the registry")  # the imports that follow take seconds
    from saetrack.explorer.addresses import Servers
    from saetrack.explorer.registry_chains import RegistryChains
    from saetrack.utils.settings import load_settings

    settings = load_settings()
    if mlflow is None and settings.tracking_uri.startswith("http"):
        mlflow = settings.tracking_uri
    chains, servers = RegistryChains(settings), Servers(mlflow, prefect)
    name = None if chain is None else chains.find_chain(chain)
    if name is not None:
        chains.require_files(name)
    if to is None:
        _serve(chains, settings, servers, name, port=port, browser=browser, as_json=as_json)
    else:
        _write(chains, servers, str(name), to, features, contexts, as_json=as_json)


def _serve(
    chains: RegistryChains,
    settings: Settings,
    servers: Servers,
    name: str | None,
    *,
    port: int,
    browser: bool,
    as_json: bool,
) -> None:
    from urllib.parse import quote

    from saetrack.explorer.app import make_app
    from saetrack.explorer.serving import address_of, bind, open_browser, serve
    from saetrack.utils.credentials import credentials

    if not 0 <= port <= 65_535:
        raise UserError(f"port={port}: must be a number from 0 to 65535")
    known = credentials(settings, os.environ)
    with bind(settings.listen, port) as bound:
        app = make_app(chains, servers=servers, listen=settings.listen, known=known)
        address = f"{address_of(bound, settings.listen)}/"
        if name is not None:
            address += f"#/{quote(name, safe='')}"
        say({"address": address}, f"{address}\nCtrl-C ends it.", as_json=as_json)
        if browser:
            open_browser(address)
        serve(app, bound)
    log.info("the server has ended")


def _write(
    chains: RegistryChains,
    servers: Servers,
    name: str,
    to: Path,
    features: int | None,
    contexts: int | None,
    *,
    as_json: bool,
) -> None:
    from saetrack.explorer.open_stores import OpenStores
    from saetrack.explorer.static_site import RULE, plan_site, require_empty, size_of, write_site
    from saetrack.utils.files import user_path
    from saetrack.utils.progress import Progress

    folder = user_path(to).absolute()
    require_empty(folder)
    store = OpenStores(chains).get(name)
    if store is None:
        raise UserError(f"chain={name!r}: was not analysed yet (saetrack analyze)")
    cards = chains.cards()
    (card,) = [card for card in cards if card.name == name]
    explained = chains.explanations(store.lives.manifest)
    plan = plan_site(
        card, store, features=features, contexts=contexts, cards=cards, explanations=explained
    )
    planned_bytes, n_features = plan.planned_bytes(), len(plan.features)
    if not as_json:
        d_sae = store.lives.manifest.d_sae
        kept = "" if n_features == d_sae else f" of {d_sae:,} ({RULE})"
        typer.echo(f"{n_features:,}{kept} features of {name}: about {planned_bytes / 1e6:,.1f} MB")
    progress = Progress("site", n_features, "features")
    for done in write_site(plan, servers, folder):
        progress.show(done)
    size_bytes, n_files = size_of(folder)
    result = {
        "folder": str(folder),
        "chain": name,
        "features": n_features,
        "planned_bytes": planned_bytes,
        "bytes": size_bytes,
        "files": n_files,
    }
    say(result, f"{to}: {size_bytes / 1e6:,.1f} MB in {n_files:,} files", as_json=as_json)
