"""Failures, named by the response they ask for.

`SpecError` stops the run: the user must change something. `DataError` quarantines what it names
and the run goes on. `TransientError` is tried again.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# X-Amz-Signature=, sig=, access_token=, ... in the query of a URL.
_SECRET = re.compile(
    r"[?&#][^=&]*(sig|token|key|secret|pass|credential|auth)[^=&]*=", re.IGNORECASE
)


class GalbatchError(Exception):
    """A failure that galbatch can explain.

    Parameters
    ----------
    where : str
        The file, key, column or row it is about.
    problem : str
        What was expected and what arrived.
    hint : str, optional
        What to try.
    """

    def __init__(self, where: str, problem: str, hint: str = "") -> None:
        self.where = where
        self.problem = problem
        self.hint = hint
        super().__init__(where, problem, hint)

    def __str__(self) -> str:
        text = f"{self.where}: {self.problem}" if self.where else self.problem
        return f"{text} ({self.hint})" if self.hint else text


class SpecError(GalbatchError):
    """The user must change something: a job, a survey, a path, a disk (exit code 2)."""


class NoFileError(SpecError):
    """A file that a job names is not there; what is only planned may go on without it."""


class DataError(GalbatchError):
    """A row, file or partition that cannot be used: quarantined, the run goes on (exit code 1)."""


class TransientError(GalbatchError):
    """Something that may work when tried again: a lost worker, a busy database."""


def counted(number: int, what: str) -> str:
    """How many of what: ``1 row``, ``1,234 rows``, ``2 deliveries``.

    Parameters
    ----------
    number : int
    what : str
        One of them.
    """
    if number == 1:
        return f"1 {what}"
    many = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{number:,} {many}"


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """A suggestion for a misspelt word.

    Parameters
    ----------
    word : str
        What the user wrote.
    options : iterable of str
        What would have been understood.

    Returns
    -------
    str
        ``did you mean 'x'?``, or the options when none is near and they are few, or ``""``.
    """
    candidates = sorted(set(options))
    by_lower = {option.lower(): option for option in candidates}
    near = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.6)
    if near:
        return f"did you mean '{by_lower[near[0]]}'?"
    if 0 < len(candidates) <= 12:
        return "expected one of: " + ", ".join(candidates)
    return ""


def refuse_secrets(url: str, key: str) -> None:
    """Refuse a URL with a password or a signature in it: receipts and logs are read by others.

    Raises
    ------
    SpecError
        That does not repeat it.
    """
    protocol, _, rest = url.partition("://")
    if "@" in rest.partition("/")[0] or _SECRET.search(rest):
        raise SpecError(
            f"{key}: {protocol}://...",
            "a name, password or signature in a URL would be kept in receipts and logs",
            "give it through the environment, e.g. AWS_PROFILE",
        )
