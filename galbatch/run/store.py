"""A store that is held by one run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path

from galbatch.errors import SpecError
from galbatch.stages.checks import identity_of
from galbatch.stages.site import Site
from galbatch.store import fence
from galbatch.store.identity import hold
from galbatch.store.locations import empty, is_remote, remove_tree


@contextmanager
def opened(site: Site) -> Iterator[None]:
    """Hold the store: alone, and only if it is this job's.

    What this run made, and nothing else, is taken away again when it makes a new store and ends
    before a catalogue exists: a mistake of the user's leaves nothing behind.

    Raises
    ------
    SpecError
        If the folder is no store, another job's, or another run works on it.
    """
    layout = site.layout
    made = (*_missing(layout.work), *_missing(layout.root))
    with hold(layout, identity_of(site)) as fresh:
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


def _missing(path: Path) -> list[Path]:
    """The folders that must be made for a path to be there, the innermost first."""
    if is_remote(path):
        return []
    return list(takewhile(lambda folder: not folder.exists(), (path, *path.parents)))
