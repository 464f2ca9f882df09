"""The registry: one registered model per chain, one version per link."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from saetrack.chain.config import TrackConfig, load_config
from saetrack.chain.plan import Chain, Link
from saetrack.lm.hook import Hook, parse_hook
from saetrack.registry import changed, overview, received
from saetrack.registry.analyses import Reports
from saetrack.registry.artifacts import Artifacts
from saetrack.registry.chain_run import ChainRuns
from saetrack.registry.claims import take_claim
from saetrack.registry.connection import connect, require_made
from saetrack.registry.facts import WARNINGS, as_tags, link_facts
from saetrack.registry.imported import ImportedSAEs
from saetrack.registry.link_run import LinkRun, create_version
from saetrack.registry.meant import meant_chain, meant_version
from saetrack.registry.received import Decoder, PulledLink, ReceivedLink
from saetrack.registry.versions import LinkVersions, label, number
from saetrack.sae.files import DENSITY_FILE
from saetrack.sae.warm_start import Parent
from saetrack.utils.errors import UserError, first_line
from saetrack.utils.settings import Settings

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

log = logging.getLogger(__name__)

FIRST, FINAL = "first", "final"
POLL_S = 1.0


class Registry:
    """One registered model per chain, one version per link; safetensors and JSON only.

    A link counts from the moment its version exists: the version, with the hash of its files among
    its tags, is created in one transaction after the files are in place.

    Attributes:
        imported: SAEs from elsewhere, from which chains can start.

    Example:
        >>> from saetrack import Settings
        >>> Registry(Settings()).chain_names()[0].startswith("nano.L1.forward.s0.")
        True
    """

    def __init__(self, settings: Settings, *, writes: bool = True) -> None:
        """Connect.

        Args:
            settings: where it is.
            writes: whether anything is to be registered.

        Raises:
            UserError: nothing answers at the tracking address, or it cannot be written.
        """
        if writes:
            settings.require_writable()
        self._client = connect(settings.tracking_uri)
        self._runs = ChainRuns(self._client, settings)
        self.reports = Reports(self._client, self._runs, settings.cache_dir)
        self.imported = ImportedSAEs(self._client, self._runs)
        self._artifacts = Artifacts(self._client, settings)
        self._versions = LinkVersions(self._client)

    @classmethod
    def existing(cls, settings: Settings) -> Registry:
        """Connect to read: a registry that nobody has made is not made.

        Raises:
            UserError: there is none, or nothing answers at the tracking address.
        """
        require_made(settings.tracking_uri)
        return cls(settings, writes=False)

    def require_files(self, lm_name: str, *, writes: bool = False) -> None:
        """Check that an LM's files can be read, and added to if `writes`: before any work.

        Raises:
            UserError: the folder that keeps them is not on this machine, or is that of another
                registry, of which this one is a copy.
        """
        self._runs.require_files(lm_name, writes=writes)

    def require_files_of(self, chain_name: str, *, writes: bool = False) -> None:
        """The same of the LM of a registered chain, by the chain's whole name."""
        self._runs.require_files_of(chain_name, writes=writes)

    # What training needs (saetrack.chain.link_store.LinkStore)

    def versions(self, chain: Chain) -> dict[str, int]:
        """Version of each registered link of a chain, by identity."""
        return {
            version.tags["identity"]: int(version.version)
            for version in self._versions.of_chain(chain.name)
        }

    def has_trained(self, link: Link) -> bool:
        """Whether any chain has a link, from which others adopt it."""
        return bool(self._versions.search(f"tags.identity = '{link.identity}'"))

    def parent(self, chain: Chain, link: Link) -> Parent:
        """What a link starts from. Its parent must be registered.

        Raises:
            UserError: its files are not those of this chain's link.
        """
        version = self._versions.of_link(chain, link.parent_identity) or self.imported.version(
            link.parent_identity
        )
        assert version is not None, "the parent is not registered"
        found = self._read(version)
        received.require_kind(found, chain, label(version))
        return Parent(found.sae, found.facts.residual_mean_distance, found.feature_density)

    def adopt(self, chain: Chain, link: Link) -> int | None:
        """Register in this chain what another chain has trained under the same identity.

        Its files, run and metrics stay where they are; the version here points at them.
        """
        elsewhere = self._versions.search(f"tags.identity = '{link.identity}'")
        if not elsewhere:
            return None
        run_id = self._claim(chain, link)
        if run_id is None:
            return self._versions.number_of(chain, link.identity)
        original = elsewhere[-1]
        if "sha256" not in original.tags:
            raise UserError(f"{label(original)}: has no hash of its files (sha256)")
        version = create_version(
            self._client,
            chain,
            link,
            run_id=str(original.run_id),
            tags=as_tags(
                {
                    **link_facts(chain, link),
                    "parent_version": self._versions.number_of(chain, link.parent_identity),
                    **{name: original.tags[name] for name in ("tokens", "sha256")},
                    WARNINGS: original.tags.get(WARNINGS),
                    "taken_over_from": f"{original.name} version {original.version}",
                }
            ),
        )
        self._client.delete_run(run_id)
        return version

    def claim(self, chain: Chain, link: Link) -> LinkRun | None:
        """The right to train a link; waits while another process that lives has it."""
        run_id = self._claim(chain, link)
        if run_id is None:
            return None
        parent_version = self._versions.number_of(chain, link.parent_identity)
        return LinkRun(self._client, run_id, chain, link, parent_version)

    def _claim(self, chain: Chain, link: Link) -> str | None:
        """The run of a claimed link; None once it is registered."""
        experiment_id, chain_run_id = self._runs.ids_of(chain)
        tags = {
            "kind": "link",
            "mlflow.parentRunId": chain_run_id,
            **as_tags(link_facts(chain, link)),
        }
        is_logged = False
        while self._versions.of_link(chain, link.identity) is None:
            run_id = take_claim(self._client, experiment_id, link.identity, chain.label(link), tags)
            if run_id is not None:
                if self._versions.of_link(chain, link.identity) is None:
                    return run_id
                self._client.delete_run(run_id)  # its owner registered it and left meanwhile
                return None
            if not is_logged:
                log.info("%s is in training in another process; waiting", chain.label(link))
                is_logged = True
            time.sleep(POLL_S * random.uniform(0.5, 1.5))  # noqa: S311  (no secret)
        return None

    # What people and analyses need

    def chains(self) -> pd.DataFrame:
        """One row per registered chain, the one that grew last first.

        `name`, `lm`, `layer`, `hook` (resid_pre.4), `direction`, `seed`; `registered` and `planned`
        links, of a live folder as far as its checkpoints are known (NaN if that is not known any
        more); `warnings`, of how many links something looks wrong; `lm_step` of the last link;
        `changed`, when it was registered.
        """
        of_runs = self._runs.tracks(), self._runs.planned(), self._runs.lacking()
        return overview.chains_table(self._versions.of_chains(), *of_runs)

    def chain_names(self) -> list[str]:
        """Of all registered chains, in the order of the alphabet."""
        return self._versions.chain_names()

    def find_chain(self, asked: str) -> str:
        """The whole name of the chain that is meant (`saetrack.registry.meant.meant_chain`)."""
        return meant_chain(asked, self._versions, self._runs)

    def pull(
        self,
        chain_name: str,
        *,
        version: int | None = None,
        alias: str | None = None,
        lm_step: int | None = None,
    ) -> PulledLink:
        """One link of a chain, by exactly one of version, alias (`first`, `final`) or LM step.

        Args:
            chain_name: or a beginning of it (`find_chain`).
            version: in the chain's registered model.
            alias: `first` or `final`.
            lm_step: of the link's checkpoint.

        Raises:
            UserError: there is no such link, or its files are not what was registered.
        """
        which = version, alias, lm_step
        version_found = meant_version(chain_name, which, self._versions, self._runs)
        found = self._read(version_found)
        if found.feature_density is None:
            raise UserError(f"{label(version_found)}: its files lack {DENSITY_FILE}")
        return PulledLink(found.sae, found.cfg, found.feature_density, number(version_found))

    def decoder(self, chain_name: str, version: int) -> Decoder:
        """The decoder rows of one link, without its other weights."""
        found = self._versions.find(chain_name, version, None, None)
        with self._files(found) as folder:
            return received.read_decoder(folder)

    def track_of(self, chain_name: str) -> tuple[dict[str, Any], Hook]:
        """The track parameters and the hook that a registered chain was trained with.

        They are as whoever wrote them left them: for people to read.

        Raises:
            UserError: there is no such chain.
        """
        return self._track_of(self.find_chain(chain_name))

    def _track_of(self, chain_name: str) -> tuple[dict[str, Any], Hook]:
        versions = self._versions.of_chain(chain_name)
        # Not of a version's `cfg.json`: another chain may have trained that link.
        track = self._runs.tracks(f" and tags.chain = '{chain_name}'").get(chain_name)
        if track is None:
            raise UserError(f"chain={chain_name!r}: its run in MLflow was deleted")
        return track, parse_hook(versions[0].tags["hook_name"])

    def config_of(self, chain_name: str) -> TrackConfig:
        """The same as a track over its hook alone, checked as a user's is.

        Raises:
            UserError: there is no such chain, or what is registered is no track, or one that names
                folders and that another machine registered.
        """
        chain_name = self.find_chain(chain_name)
        track, hook = self._track_of(chain_name)
        is_layer = hook.kind == "resid_pre"
        layers, hooks = [hook.layer] if is_layer else [], [] if is_layer else [hook]
        values = {**track, "layers": layers, "hooks": hooks}
        try:
            if not self._runs.was_begun_here(chain_name, track):
                received.require_no_paths(values)
            return load_config(values)
        except UserError as error:
            raise UserError(f"chain={chain_name!r}: its registered track: {error}") from None

    def registered(self, config: TrackConfig) -> tuple[frozenset[str], int]:
        """Identities of all links; how many there are of a track's very fields, on any text."""
        return overview.registered(self._versions.of_chains(), self._runs.tracks(), config)

    def what_changed(self, chain_name: str, now: Chain) -> str:
        """Of what a registered chain's name stands for, what is not in a chain that is here."""
        return changed.what_changed(self._versions.of_chain(chain_name), now)

    def table(self, chain: Chain) -> pd.DataFrame:
        """One row per registered link of a chain, in chain order, with its final metrics."""
        planned = {link.identity for link in chain.links}
        versions = self._versions.of_chain(chain.name)
        return overview.links_table(
            self._client, (v for v in versions if v.tags["identity"] in planned)
        )

    def links(self, chain_name: str) -> pd.DataFrame:
        """The same of a chain that is known by name only."""
        return overview.links_table(self._client, self._versions.of_chain(chain_name))

    def notes(self, chain_name: str) -> list[str]:
        """What of a chain's text and checkpoints was left out, what looks wrong with its links."""
        lacking = self._runs.lacking(f" and tags.chain = '{chain_name}'").get(chain_name, [])
        return overview.notes_of(self._versions.of_chain(chain_name), lacking)

    def history(self, chain_name: str, version: int) -> pd.DataFrame:
        """Every held-out evaluation of a link while it trained: one row each, by `tokens`."""
        return overview.history(self._client, chain_name, version)

    def finish(self, chain: Chain, figures: Path) -> None:
        """Bring a chain's run up to date: aliases, curves, table, figures.

        All of it is derived from the links, so it may be repeated at will, and repairs what a
        crash between a link's registration and this left behind.

        Args:
            chain: whose links count as they are registered.
            figures: a folder of them, drawn from the chain's table.
        """
        versions = self.versions(chain)
        for alias, link in ((FIRST, chain.links[0]), (FINAL, chain.links[-1])):
            if link.identity in versions:
                version = str(versions[link.identity])
                self._client.set_registered_model_alias(chain.name, alias, version)
        whole = all(link.identity in versions for link in chain.links)
        self._runs.update(chain, self.table(chain), versions, figures, whole=whole)
        current = [v for v in self._versions.of_chain(chain.name) if v.tags["identity"] in versions]
        self._runs.note(chain, overview.notes_of(current, chain.lacking))

    def break_off(self, chain: Chain) -> None:
        """Let a chain's run say that its training ended too early; it goes on when that does."""
        self._runs.break_off(chain)

    def is_finished(self, chain: Chain) -> bool:
        """Whether `finish` has seen the whole chain."""
        return self._runs.is_finished(chain)

    def _read(self, version: ModelVersion) -> ReceivedLink:
        with self._files(version) as folder:
            return received.read_link(folder, version.tags)

    @contextmanager
    def _files(self, version: ModelVersion) -> Iterator[Path]:
        """A version's files, verified; what goes wrong when they are read is one line."""
        name = label(version)
        sha256 = version.tags.get("sha256", "")
        folder = self._artifacts.folder(str(version.run_id), sha256, name)
        try:
            yield folder
        except (OSError, ValueError) as error:
            raise UserError(f"{name}: {first_line(error)}") from None
