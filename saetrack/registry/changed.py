"""Why a chain cannot be gone on with from what is here: its text or its LM has changed."""

from __future__ import annotations

from collections.abc import Iterable

from mlflow.entities.model_registry import ModelVersion

from saetrack.chain.plan import Chain

SHOWN = 12


def what_changed(versions: Iterable[ModelVersion], now: Chain) -> str:
    """What of a registered chain is not in the chain that the same parameters make here.

    Args:
        versions: of the registered chain.
        now: the chain that its parameters make of what is here.

    Returns:
        What differs, and what can be done, in a line.
    """
    ordered = sorted(versions, key=lambda version: int(version.tags["link"]))
    dataset = now.config.corpus.dataset
    then, here = ordered[0].tags.get("corpus", "unknown"), now.corpus.sha256
    if then != here:
        return (
            f"corpus.dataset={dataset!r} is not the text that it was trained on (SHA-256 of the "
            f"tokens {then[:SHOWN]}, here {here[:SHOWN]}); put that text back, or train the chain "
            "of the new one"
        )
    commits = {link.checkpoint.lm_step: link.checkpoint.commit for link in now.links}
    for version in ordered:
        lm_step, commit = int(version.tags["lm_step"]), version.tags["commit"]
        if lm_step not in commits:
            return f"model={now.config.model!r} has no checkpoint of step {lm_step} any more"
        if commits[lm_step] != commit:
            return (
                f"model={now.config.model!r}: its checkpoint of step {lm_step} has other weights "
                f"than those that the chain was trained on ({commit[:SHOWN]}, here "
                f"{commits[lm_step][:SHOWN]})"
            )
    return (
        "of the same text and LM this release would train another chain; analyse it with the "
        "release that trained it, or train it anew"
    )
