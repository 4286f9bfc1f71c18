"""Which column of a file is which column of the survey."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from galbatch.errors import SpecError, did_you_mean
from galbatch.spec.survey import Survey


@dataclass(frozen=True)
class Resolution:
    """How a file spells the survey's columns.

    Parameters
    ----------
    names : dict of str to str
        The store's name of each column of the file, by the file's own spelling, in file order.
        Columns that the survey does not know keep their name.
    aliases : tuple of str
        ``RAdeg -> RA``: the spellings that differ from the survey's, for the log.
    absent : tuple of str
        Columns of the survey that the file does not have and need not have.
    """

    names: dict[str, str]
    aliases: tuple[str, ...]
    absent: tuple[str, ...]


def resolve_columns(survey: Survey, found: Sequence[str], file: str) -> Resolution:
    """Match a file's columns with the survey's: by name, any case, then by alias.

    Parameters
    ----------
    survey : Survey
    found : sequence of str
        Column names as the file spells them.
    file : str
        For the message.

    Returns
    -------
    Resolution

    Raises
    ------
    SpecError
        If a required column is missing, or two columns of the file are the same one.
    """
    by_lower: dict[str, str] = {}
    for name in found:
        if name.strip().lower() in by_lower:
            raise SpecError(file, f"column '{name}' is there twice")
        by_lower[name.strip().lower()] = name
    names = {name: name.strip() for name in found}
    aliases: list[str] = []
    absent: list[str] = []
    used: dict[str, str] = {}
    for column in survey.columns:
        spelling = next(
            (
                by_lower[option.lower()]
                for option in (column.name, *column.aliases)
                if option.lower() in by_lower and by_lower[option.lower()] not in used
            ),
            None,
        )
        if spelling is None:
            absent.append(column.name)
            continue
        used[spelling] = column.name
        names[spelling] = column.name
        if spelling != column.name:
            aliases.append(f"{spelling} -> {column.name}")
    for name in survey.required:
        if name in absent:
            band = next((b.name for b in survey.bands if name in (b.value, b.error)), None)
            what = f"column '{name}'" + (f" of band {band}" if band else "")
            hint = did_you_mean(name, [spelling for spelling in found if spelling not in used])
            if not hint or hint.startswith("expected"):
                hint = f"it has {len(found)} columns: {', '.join(found[:6])}, ..."
            raise SpecError(file, f"{what} is not in the file", hint)
    return Resolution(names, tuple(aliases), tuple(absent))
