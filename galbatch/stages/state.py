"""The state of a store: what stages go by when they say what is left to do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from galbatch.stages.catalogue import (
    Catalogue,
    CatalogueState,
    compare_with_sources,
    finished,
)
from galbatch.stages.site import Site
from galbatch.stages.versions import HeldVersion, Versions
from galbatch.store.receipts import Receipts
from galbatch.store.units import CATALOGUE_UNIT


@dataclass(frozen=True)
class Snapshot:
    """A store as it is: read once, and the same for as long as this lives.

    Each part is read when it is first asked for, each receipt once. Who has written takes another
    snapshot.

    Parameters
    ----------
    site : Site
    """

    site: Site

    @cached_property
    def receipts(self) -> Receipts:
        """The receipts, by stage and unit."""
        return Receipts(self.site.layout)

    @cached_property
    def catalogue_state(self) -> CatalogueState:
        """The published catalogue compared with its sources.

        Raises
        ------
        SpecError
            If a file is missing that was never read, or the job no longer names one that was.
        """
        return compare_with_sources(self.site, self.receipts)

    @cached_property
    def catalogue(self) -> Catalogue | None:
        """The catalogue, if it is whole and made from the sources as they are."""
        return finished(self.site, self.receipts, self.catalogue_state)

    @cached_property
    def versions(self) -> Versions:
        """The versions of models."""
        return Versions(self.site, self.receipts)

    @cached_property
    def held_versions(self) -> tuple[HeldVersion, ...]:
        """What versions of models the store holds."""
        catalogue = self.receipts.get("ingest", CATALOGUE_UNIT)
        return self.versions.held(catalogue.digest if catalogue else "")
