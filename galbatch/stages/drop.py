"""Remove a version of a model and all that it predicted."""

from __future__ import annotations

from collections.abc import Iterator

from galbatch.errors import SpecError, did_you_mean
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.locations import remove_tree
from galbatch.store.model_facts import AppendFacts
from galbatch.store.publish import retract
from galbatch.store.units import version_of


def drop(site: Site, version: str) -> Iterator[str]:
    """Remove a version: its predictions, its networks, its receipts.

    Rows that were appended to a database are the user's, and stay there.

    Parameters
    ----------
    site : Site
    version : str
        ``photometric``, ``photometric_v2``, ...

    Yields
    ------
    str
        What was removed, or what stays.

    Raises
    ------
    SpecError
        If the store has no such version.
    """
    layout, book, snapshot = site.layout, site.book, Snapshot(site)
    known = snapshot.versions.known()
    if version not in known:
        hint = did_you_mean(version, known) or "it holds no model"
        raise SpecError(str(layout.root), f"holds no model '{version}'", hint)
    # What makes it visible goes first: killed in between, what is left is found by the next drop.
    retract(layout, site.survey, version)
    for path in (layout.extension(version), layout.arrays(version), layout.model(version)):
        if path.exists():
            remove_tree(path)
            yield f"removed {path}"
    for unit, receipt in snapshot.receipts.all("append").items():
        facts = AppendFacts.from_json(receipt.facts)
        if facts.model == version:
            yield f"kept    {facts.where}: rows in a database are yours to remove"
            book.forget("append", unit)
    for unit in snapshot.receipts.all("predict"):
        if version_of(unit) == version:
            book.forget("predict", unit)
    book.forget("train", version)
