"""Which column of a file is which column of the survey."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from galbatch.errors import SpecError, counted, did_you_mean
from galbatch.spec.columns import Column
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


def resolve_columns(survey: Survey, spellings: Sequence[str], file: str) -> Resolution:
    """Match a file's columns with the survey's: by name, any case, then by alias.

    Parameters
    ----------
    survey : Survey
    spellings : sequence of str
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
    by_lower: dict[str, list[str]] = {}
    for name in spellings:
        same = by_lower.setdefault(name.strip().lower(), [])
        if name.strip() in (other.strip() for other in same):
            raise SpecError(file, f"column '{name}' is there twice")
        same.append(name)
    names = {name: name.strip() for name in spellings}
    aliases: list[str] = []
    absent: list[str] = []
    used: dict[str, str] = {}
    for column in survey.columns:
        spelling = _spelling(survey, column, by_lower, used, file)
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
            hint = did_you_mean(name, [one for one in spellings if one not in used])
            if not hint or hint.startswith("expected"):
                hint = (
                    f"it has {counted(len(spellings), 'column')}: {', '.join(spellings[:6])}, ..."
                )
            raise SpecError(file, f"{what} is not in the file", hint)
    return Resolution(names, tuple(aliases), tuple(absent))


def _spelling(
    survey: Survey,
    column: Column,
    by_lower: Mapping[str, list[str]],
    used: Container[str],
    file: str,
) -> str | None:
    """How the file spells a column; the exact spelling wins (`m_I` and `M_I` can both be there)."""
    for option in (column.name, *column.aliases):
        same = [name for name in by_lower.get(option.lower(), ()) if name not in used]
        exact = [name for name in same if name.strip() == option]
        others = [name for name in same if name.strip() not in survey.column]
        if exact or len(others) == 1:
            return (exact or others)[0]
        if others:
            raise SpecError(
                file, f"'{others[0]}' and '{others[1]}' could both be column '{column.name}'"
            )
    return None
