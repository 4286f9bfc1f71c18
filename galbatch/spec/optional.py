"""Columns that a survey uses and that a file may lack."""

from __future__ import annotations

from galbatch.spec.survey import Survey
from galbatch.values import TARGETS


def optional_columns(survey: Survey) -> dict[str, tuple[str, ...]]:
    """The columns that a file may lack, each with the survey's settings that name it.

    Parameters
    ----------
    survey : Survey

    Returns
    -------
    dict of str to tuple of str
        Settings of the survey, by the column that they name: ``extinction``, ``labels.redshift``,
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
    for name, setting in named:
        if name is not None and name not in survey.required and setting not in found.get(name, ()):
            found[name] = (*found.get(name, ()), setting)
    return found
