"""Columns that a survey makes use of and a file may lack."""

from __future__ import annotations

from galbatch.spec.survey import Survey
from galbatch.values import TARGETS


def optional_columns(survey: Survey) -> dict[str, tuple[str, ...]]:
    """What the survey wants each column for without which a file is read all the same.

    Parameters
    ----------
    survey : Survey

    Returns
    -------
    dict of str to tuple of str
        Words of the survey, by the column that they name: ``extinction``, ``labels.redshift``,
        ``labels.redshift.where``, ...
    """
    named: list[tuple[str | None, str]] = [(survey.extinction, "extinction")]
    named += [(name, "morphology") for name in survey.morphology]
    photometry = survey.photometry
    if photometry.saturation:
        named.append((photometry.saturation.column, "photometry.saturation"))
    if photometry.vectors:
        named.append((photometry.vectors.mask, "photometry.vectors.mask"))
    for target in TARGETS:
        label = survey.labels.of(target)
        if label is not None:
            named.append((label.column, f"labels.{target}"))
            named += [(one.column, f"labels.{target}.where") for one in label.where]
    named += [(name, "thesis_inputs") for name in survey.thesis_inputs]
    found: dict[str, tuple[str, ...]] = {}
    for name, word in named:
        if name is not None and name not in survey.required and word not in found.get(name, ()):
            found[name] = (*found.get(name, ()), word)
    return found
