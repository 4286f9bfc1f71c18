"""Whether a pattern of a source would take a file that is not there yet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path

from galbatch.readers.remote import is_url

_ANY_DEPTH = "**"
Parts = tuple[str, ...]


def takes(pattern: str, file: str) -> bool:
    """Whether `expand` would find a file, were it there.

    Parameters
    ----------
    pattern : str
        Of `source.paths`.
    file : str
        Absolute path or URL; neither it nor its folders need be there.

    Returns
    -------
    bool
        Also where a link leads the pattern to the file's folder.
    """
    if is_url(pattern) or is_url(file):
        return is_url(pattern) == is_url(file) and _fits(_split(file, "/"), _split(pattern, "/"))
    target = os.path.realpath(file)
    parts = Path(pattern).expanduser().absolute().parts
    magic = next((place for place, part in enumerate(parts) if has_magic(part)), len(parts))
    folder = os.path.realpath(Path(*parts[:magic]))
    if magic == len(parts):
        return folder == target
    return _reaches(folder, parts[magic:], target, set())


def _reaches(folder: str, parts: Parts, target: str, seen: set[tuple[str, Parts]]) -> bool:
    """Whether a pattern's rest leads from a real folder to the target, also through links."""
    if (folder, parts) in seen:
        return False
    seen.add((folder, parts))
    if target.startswith(folder.rstrip(os.sep) + os.sep):
        names = _split(os.path.relpath(target, folder), os.sep)
        if _fits(names, parts):
            return True
    return any(_reaches(to, rest, target, seen) for to, rest in _links(folder, parts))


def _links(folder: str, parts: Parts) -> list[tuple[str, Parts]]:
    """The folders that links below a folder lead to, and what of the pattern is left there."""
    found = []
    waiting = [(folder, parts)]
    while waiting:
        place, left = waiting.pop()
        with suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                for rest in _steps(entry.name, left) if entry.is_dir() else ():
                    if entry.is_symlink():
                        found.append((os.path.realpath(entry.path), rest))
                    else:
                        waiting.append((entry.path, rest))
    return found


def _fits(names: Sequence[str], parts: Parts) -> bool:
    """Whether a pattern's parts take a path below the folder that they begin in."""
    states = {parts}
    for name in names[:-1]:
        states = {rest for state in states for rest in _steps(name, state)}
    return any(_ends(names[-1], state) for state in states)


def _steps(folder: str, parts: Parts) -> set[Parts]:
    """What may be left of a pattern's parts behind a folder of this name."""
    if parts[0] == _ANY_DEPTH and len(parts) > 1:
        here = set() if folder.startswith(".") else {parts}
        return here | _steps(folder, parts[1:])
    if parts[0] == _ANY_DEPTH:
        return set() if folder.startswith(".") else {parts}
    return {parts[1:]} if len(parts) > 1 and _matches(folder, parts[0]) else set()


def _ends(name: str, parts: Parts) -> bool:
    if parts[0] == _ANY_DEPTH and len(parts) > 1:
        return _ends(name, parts[1:])
    return len(parts) == 1 and _matches(name, parts[0])


def _matches(name: str, part: str) -> bool:
    # As glob does: hidden files are no files unless they are asked for.
    return fnmatchcase(name, part) and (not name.startswith(".") or part.startswith("."))


def _split(path: str, separator: str) -> Parts:
    return tuple(path.split(separator))
