"""From YAML text to spec models, with errors a person can act on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from galbatch.errors import SpecError, did_you_mean
from galbatch.spec.base import Settings
from galbatch.spec.job import Job
from galbatch.spec.messages import describe_error, name_entries
from galbatch.spec.sites import NO_SITE, SiteProfile, depth, site_profile
from galbatch.spec.survey import Survey
from galbatch.spec.yaml import Document, read_document, read_value

_PACKAGE = Path(__file__).resolve().parent.parent
Spec = TypeVar("Spec", bound=Settings)


def lasting(path: str) -> str:
    """A job as it can be named from any folder: its absolute path, unless galbatch ships it."""
    file = Path(path)
    named = file.suffix not in (".yaml", ".yml") and file.parent == Path()
    return path if named else str(file.absolute())


def shipped(folder: str) -> Path:
    """Where the `jobs` or `schemas` that come with galbatch are (wheel or source tree)."""
    installed = _PACKAGE / f"_{folder}"
    return installed if installed.is_dir() else _PACKAGE.parent / folder


def load_job(path: str, overrides: Sequence[str] = ()) -> Job:
    """Read a job file.

    Parameters
    ----------
    path : str
        A YAML file, or the name of a job that galbatch ships (``quickstart``).
    overrides : sequence of str
        ``key.path=value`` settings that replace what the file says; the value is read as YAML.

    Returns
    -------
    Job

    Raises
    ------
    SpecError
        If the file or its site is missing or says something galbatch does not understand.
    """
    file = _find(path, "jobs", "job")
    document = read_document(file)
    given = [_override(document.content, override) for override in overrides]
    return _parse(Job, document, file, given, site_profile(document.content.get("site")))


def load_survey(name: str, beside: Path | None = None) -> Survey:
    """Read a survey file.

    Parameters
    ----------
    name : str
        A YAML file, or the name of a survey that galbatch ships.
    beside : Path, optional
        Folder of the job: a relative path is looked for there if it is not in the current folder.

    Returns
    -------
    Survey

    Raises
    ------
    SpecError
        If there is no such survey, or its file says something galbatch does not understand.
    """
    if beside is not None and not _is_file(Path(name)) and _is_file(beside / name):
        name = str(beside / name)
    file = _find(name, "schemas", "survey")
    return _load_survey_file(file, file.absolute(), file.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _load_survey_file(file: Path, place: Path, changed: int) -> Survey:
    """Kept while the file in this place is not changed."""
    return _parse(Survey, read_document(file), file)


def _find(name: str, folder: str, what: str) -> Path:
    file = Path(name)
    if file.suffix in (".yaml", ".yml") or file.parent != Path():
        if not _is_file(file):
            beside = file.parent.glob("*.y*ml") if file.parent.is_dir() else ()
            hint = did_you_mean(file.name, [entry.name for entry in beside])
            raise SpecError(name, f"there is no such {what} file", hint)
        return file
    known = {entry.stem: entry for entry in shipped(folder).glob("*.yaml")}
    if name not in known:
        hint = did_you_mean(name, known) or f"known: {', '.join(sorted(known))}"
        raise SpecError(name, f"is no known {what}", f"{hint}; or give the path of a YAML file")
    return known[name]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _override(settings: dict[str, Any], override: str) -> tuple[str | int, ...]:
    """Put what `--set` says into the settings of a job; where it went is returned."""
    path, equals, text = override.partition("=")
    where = f"--set {override}"
    if not equals or not path:
        raise SpecError(where, "expected key.path=value", "e.g. store=results/try2")
    value = read_value(text, where)
    *parents, last = path.split(".")
    node: Any = settings
    taken: list[str | int] = []
    for number, key in enumerate(parents):
        part = _part(node, key, where)
        taken.append(part)
        node = node[part] if isinstance(part, int) else node.setdefault(part, {})
        if not isinstance(node, dict | list):
            raise SpecError(where, f"'{'.'.join(parents[: number + 1])}' holds a value, not keys")
    part = _part(node, last, where)
    node[part] = value
    return (*taken, part)


def _part(node: Any, key: str, where: str) -> str | int:
    """A key of a mapping, or the position of an entry of a list by its number or name."""
    if not isinstance(node, list):
        return key
    named = name_entries(node)
    if key in named:
        return named.index(key)
    if key in (numbers := [str(number) for number in range(len(node))]):
        return numbers.index(key)
    raise SpecError(
        where,
        f"'{key}' is neither a position (0 to {len(node) - 1}) nor a name in that list",
        did_you_mean(key, [name for name in named if name]),
    )


def _parse(
    model: type[Spec],
    document: Document,
    file: Path,
    given: Sequence[Sequence[str | int]] = (),
    site: SiteProfile = NO_SITE,
) -> Spec:
    """`given` are the places that the file does not tell, but `--set` does."""
    content = site.under(document.content)

    def where(path: Sequence[str | int]) -> str:
        # Of the site's words some are not taken.
        if min(site.depth(path), depth(content, path)) > depth(document.content, path):
            return f"{site.file}: line {site.document.line(path)}"
        line = document.line(path)
        told = line is not None and not any(path[: len(one)] == tuple(one) for one in given)
        return f"{file}: line {line}" if told else str(file)

    if lacking := site.lacks(document.content):
        name, hint = lacking
        place = where(["cluster", "groups", name])
        raise SpecError(place, f"the site has no group '{name}' to take away", hint)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise describe_error(model, error, content, where) from None
