"""What jobs of one place have in common: `~/.config/galbatch/sites/NAME.yaml`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from galbatch.errors import SpecError, did_you_mean
from galbatch.spec.messages import shown
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
            Its own words win, key by key, and its nulls take away what the site says. Where it
            names another kind of cluster, nothing of the site is taken; where it counts `workers`
            of the cluster as a whole, no groups of the site, and no such number where it has
            groups.
        """
        site = self.document.content
        if "cluster" in site and _is_elsewhere(site["cluster"], job):
            return dict(job)
        found = _merged(site, job)
        if "cluster" in site and "cluster" in job:
            _counted_once(found["cluster"], job["cluster"])
        return found

    def lacks(self, job: Mapping[str, Any]) -> tuple[str, str] | None:
        """A group of this site's that a job takes away, but that it has not; and what it may mean.

        Parameters
        ----------
        job : mapping
        """
        own, site = _groups_of(job), self.document.content
        if "cluster" not in site or _is_elsewhere(site["cluster"], job):
            return None
        groups = _groups_of(site)
        found = [name for name, group in own.items() if group is None and name not in groups]
        return (found[0], did_you_mean(found[0], groups)) if found else None

    def depth(self, path: Sequence[str | int]) -> int:
        """How many of the keys that lead to a place in the settings this site has."""
        return depth(self.document.content, path)


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
    if not isinstance(cluster := document.content.get("cluster", {}), dict):
        where = f"{known[name]}: line {document.line(['cluster'])}"
        problem = f"'cluster': expected 'key: value' lines, got {shown(cluster)}"
        raise SpecError(where, problem)
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


def depth(content: Any, path: Sequence[str | int]) -> int:
    """How many of the keys and positions that lead to a place the content of a file has."""
    for number, part in enumerate(path):
        inside = (isinstance(content, dict) and part in content) or (
            isinstance(content, list) and isinstance(part, int) and part < len(content)
        )
        if not inside:
            return number
        content = content[part]
    return len(path)


def _groups_of(content: Mapping[str, Any]) -> Mapping[str, Any]:
    cluster = content.get("cluster")
    groups = cluster.get("groups") if isinstance(cluster, dict) else None
    return groups if isinstance(groups, dict) else {}


def _is_elsewhere(cluster: Mapping[str, Any], job: Mapping[str, Any]) -> bool:
    """Whether a job does not work on the cluster of a site."""
    own = job.get("cluster", {})
    if not isinstance(own, dict):
        return True
    kinds = cluster.get("kind"), own.get("kind")
    return None not in kinds and kinds[0] != kinds[1]


def _counted_once(cluster: dict[str, Any], own: Mapping[str, Any]) -> None:
    """Take away the workers that a site counts otherwise than a job does: in groups, or in all."""
    in_all, in_groups = own.get("workers") is not None, bool(own.get("groups"))
    if in_all and not in_groups:
        cluster.pop("groups", None)
    if in_groups and not in_all:
        cluster.pop("workers", None)


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    found = {**under, **over}
    for key in under.keys() & over.keys():
        if over[key] is None:
            del found[key]
        elif isinstance(under[key], dict) and isinstance(over[key], dict):
            found[key] = _merged(under[key], over[key])
    return found
