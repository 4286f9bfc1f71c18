"""What jobs of one place have in common: `~/.config/galbatch/sites/NAME.yaml`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from galbatch.errors import SpecError, did_you_mean
from galbatch.spec.yaml import Document, read_document

KEYS = ("cluster", "scratch")
"""What a site may say."""


@dataclass(frozen=True)
class SiteProfile:
    """A part of a job that it shares with others; without a file, none.

    Parameters
    ----------
    file : Path, optional
    document : Document, optional
        What the file says.
    """

    file: Path = Path()
    document: Document = field(default_factory=lambda: Document({}, None))

    def under(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a job, on top of those of this site.

        Parameters
        ----------
        job : mapping
            Its own words win, key by key; where it names another kind of cluster, nothing of the
            site's cluster is taken.
        """
        site = dict(self.document.content)
        if None not in (kinds := (_kind(site), _kind(job))) and len(set(map(str, kinds))) > 1:
            del site["cluster"]
        return _merged(site, job)

    def says(self, path: Sequence[str | int]) -> bool:
        """Whether a place in the settings is one of this site's."""
        return bool(path) and holds(self.document.content, path)


NO_SITE = SiteProfile()


def site_profile(name: Any) -> SiteProfile:
    """Read the profile of a site.

    Parameters
    ----------
    name : object
        As a job gives it; what is no text is not looked for.

    Raises
    ------
    SpecError
        If there is no such site, or it says what no site has.
    """
    if not isinstance(name, str):
        return NO_SITE
    folder = sites_folder()
    known = {file.stem: file for file in folder.glob("*.yaml")}
    if name not in known:
        file = folder / f"{name}.yaml"
        hint = did_you_mean(name, known) or f"write {file}"
        raise SpecError(f"site '{name}'", f"is not in {folder}", hint)
    document = read_document(known[name])
    for key in document.content:
        if key not in KEYS:
            where = f"{known[name]}: line {document.line([key])}"
            raise SpecError(where, f"a site has no '{key}'", did_you_mean(key, KEYS))
    return SiteProfile(known[name], document)


def sites_folder() -> Path:
    """Where the profiles are.

    Raises
    ------
    SpecError
        If the user has no home.
    """
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    try:
        return Path(base).expanduser() / "galbatch" / "sites"
    except RuntimeError as error:
        hint = "set XDG_CONFIG_HOME to a folder"
        raise SpecError("site", "there is no home to look for it in", hint) from error


def holds(content: Any, path: Sequence[str | int]) -> bool:
    """Whether something stands in a place of the content of a file."""
    for part in path:
        inside = (isinstance(content, dict) and part in content) or (
            isinstance(content, list) and isinstance(part, int) and part < len(content)
        )
        if not inside:
            return False
        content = content[part]
    return True


def _kind(settings: Mapping[str, Any]) -> Any:
    cluster = settings.get("cluster")
    return cluster.get("kind") if isinstance(cluster, dict) else None


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    found = {**under, **over}
    for key in under.keys() & over.keys():
        if isinstance(under[key], dict) and isinstance(over[key], dict):
            found[key] = _merged(under[key], over[key])
    return found
