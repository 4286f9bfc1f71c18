"""Which targets can be learnt from the labels there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from galbatch.errors import SpecError
from galbatch.spec.survey import Survey
from galbatch.targets import RECORDS
from galbatch.values import GALAXY, QSO, STAR, TARGETS, Target

FEWEST_ROWS = 100
FEWEST_OF_A_CLASS = 50


def choose_targets(
    asked: Sequence[Target] | None,
    survey: Survey,
    known: Mapping[Target, NDArray[np.float64]],
    where: str,
    validation: Mapping[Target, NDArray[np.float64]] | None = None,
) -> tuple[tuple[Target, ...], dict[str, str]]:
    """The targets to train.

    Parameters
    ----------
    asked : sequence of Target, optional
        By name in the job; all that have enough labels without it.
    survey : Survey
    known : mapping
        Labels of the training rows, NaN where unknown.
    where : str
        The model in the job, for messages.
    validation : mapping, optional
        Labels of the validation rows: a target without any cannot be calibrated.

    Returns
    -------
    targets : tuple of Target
    skipped : dict of str to str
        Why the others are left out.

    Raises
    ------
    SpecError
        If one that was asked for, or every one, has too few labels.
    """
    lacking = {target: _lack(target, survey, known.get(target)) for target in TARGETS}
    for target, values in (validation or {}).items():
        if not lacking[target] and not np.isfinite(values).any():
            lacking[target] = (
                "no validation row has its label: change the shares or the order of 'split'"
            )
    for target in asked or ():
        if lacking[target]:
            able = [name for name in TARGETS if not lacking[name]]
            raise SpecError(
                f"{where}.targets",
                f"'{target}' cannot be trained: {lacking[target]}",
                f"can be: {', '.join(able)}" if able else "",
            )
    chosen = tuple(t for t in TARGETS if t in (asked or TARGETS) and not lacking[t])
    if not chosen:
        raise SpecError(
            where,
            "nothing can be trained: " + "; ".join(f"{t}: {lacking[t]}" for t in TARGETS),
            "are the label columns in the catalogue?",
        )
    return chosen, {t: why for t, why in lacking.items() if why and asked is None}


def lacking_quasars(survey: Survey, known: Mapping[Target, NDArray[np.float64]]) -> str:
    """Why quasars cannot be a class of their own.

    Parameters
    ----------
    survey : Survey
    known : mapping
        Labels of the training rows, NaN where unknown.

    Returns
    -------
    str
        Empty where they can be, and for a survey whose labels do not tell them.
    """
    if survey.labels.star is None or not survey.labels.star.qso or "star" not in known:
        return ""
    found = int((known["star"] == QSO).sum())
    if found >= FEWEST_OF_A_CLASS:
        return ""
    return (
        f"expected at least {FEWEST_OF_A_CLASS} training rows that are quasars, found {found}: "
        "stars are told from galaxies alone"
    )


def _lack(target: Target, survey: Survey, values: NDArray[np.float64] | None) -> str:
    if values is None:
        return f"the survey {survey.name} names no label column for it"
    found = values[np.isfinite(values)]
    if RECORDS[target].is_class:
        stars, galaxies = (int((found == kind).sum()) for kind in (STAR, GALAXY))
        if min(stars, galaxies) < FEWEST_OF_A_CLASS:
            return (
                f"expected at least {FEWEST_OF_A_CLASS} training rows of each class, "
                f"found {stars} stars and {galaxies} galaxies"
            )
    elif found.size < FEWEST_ROWS:
        return f"expected at least {FEWEST_ROWS} labelled training rows, found {found.size}"
    elif found.min() == found.max():
        return f"all {found.size} labelled training rows have the value {found[0]:g}"
    return ""
