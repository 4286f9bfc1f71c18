"""A store that is held by one run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from galbatch.errors import SpecError
from galbatch.stages.checks import identity_of
from galbatch.stages.site import Site
from galbatch.store import fence
from galbatch.store.fence import Occupied
from galbatch.store.identity import hold
from galbatch.store.locations import empty, missing, remove_tree

_ASKS_EVERY = 1.0
"""Seconds."""


@contextmanager
def opened(site: Site, patience: float = 0.0) -> Iterator[None]:
    """Hold the store: alone, and only if it is this job's.

    What this run made, and nothing else, is taken away again when it makes a new store and ends
    before a catalogue exists: a mistake of the user's leaves nothing behind.

    Parameters
    ----------
    site : Site
    patience : float, optional
        Seconds to wait for another run that works on it.

    Raises
    ------
    SpecError
        If the folder is no store, another job's, or another run works on it.
    """
    layout = site.layout
    made = (*missing(layout.work), *missing(layout.root))
    with _held(site, patience) as fresh:
        try:
            yield
        except SpecError:
            if fresh and not layout.catalogue.exists() and fence.holds():
                remove_tree(layout.work)
                empty(layout.root)
                for folder in made:
                    with suppress(OSError):  # others may have put something there
                        folder.rmdir()
            raise


@contextmanager
def _held(site: Site, patience: float) -> Iterator[bool]:
    until = time.monotonic() + patience
    with ExitStack() as stack:
        while True:
            try:
                fresh = stack.enter_context(hold(site.layout, identity_of(site)))
                break
            except Occupied:
                if time.monotonic() > until:
                    raise
                time.sleep(_ASKS_EVERY)
        yield fresh
