"""The targets, one record for each: how it is learnt, judged, stored and named."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Literal

from galbatch.values import Target


@dataclass(frozen=True)
class JudgedColumns:
    """The predicted columns that speak about a target.

    Parameters
    ----------
    point : str
        The point estimate (or probability) that is judged.
    interval68, interval95 : pair of str
        Low and high ends; empty where there is no such interval.
    quantiles : str
        A list column; empty where there is none.
    median : str
        What the intervals are around; empty where that is the point estimate.
    error : str
        Of one sigma, where that stands for the intervals; else empty.
    """

    point: str
    interval68: tuple[str, str] | None = None
    interval95: tuple[str, str] | None = None
    quantiles: str = ""
    median: str = ""
    error: str = ""


@dataclass(frozen=True)
class TargetRecord:
    """A target.

    Parameters
    ----------
    name : Target
        In a job's `targets`, and in a survey's `labels`.
    head : {"classes", "cells", "point"}
        How the default family predicts it (`galbatch.models.heads`).
    judged : JudgedColumns
    unit, ucd, description : str
        VOUnit string, UCD1+ words and one line, of the predicted value.
    title : str
        In headings and tables of the report.
    symbol : str
        On axes (mathtext), without a unit.
    axis_unit : str
        On axes and in tables; empty for dimensionless.
    known : str
        What a true value is called.
    scale : {"linear", "log1p"}
        What is learnt: the value x, or ln(1 + x). Residuals of the latter are in units of 1 + x.
    main : bool
        Whether it is what a catalogue of predictions is for (UCD ``meta.main``).
    reversed_axes : bool
        Whether figures have small values to the right and at the top, as magnitudes.
    by_spectra : JudgedColumns or None
        The predicted columns of families that read spectra, where they have other names.
    """

    name: Target
    head: Literal["classes", "cells", "point"]
    judged: JudgedColumns
    unit: str
    ucd: str
    description: str
    title: str
    symbol: str
    axis_unit: str
    known: str
    scale: Literal["linear", "log1p"] = "linear"
    main: bool = False
    reversed_axes: bool = False
    by_spectra: JudgedColumns | None = None

    def judged_among(self, columns: Container[str]) -> JudgedColumns:
        """The predicted columns that speak about it, of a model that has these columns."""
        if self.by_spectra is not None and self.judged.point not in columns:
            return self.by_spectra
        return self.judged

    @property
    def is_class(self) -> bool:
        """Whether its labels are places in `values.CLASSES`, and no numbers."""
        return self.head == "classes"

    @property
    def is_relative(self) -> bool:
        """Whether residuals are in units of 1 + the true value."""
        return self.scale == "log1p"

    @property
    def point_ucd(self) -> str:
        """UCD of the column of its point estimate."""
        return f"{self.ucd};meta.main" if self.main else self.ucd


def _interval(name: str) -> JudgedColumns:
    return JudgedColumns(name, (f"{name}_low68", f"{name}_high68"))


RECORDS: Mapping[Target, TargetRecord] = {
    record.name: record
    for record in (
        TargetRecord(
            name="redshift",
            head="cells",
            judged=JudgedColumns(
                "z_mode",
                ("z_err68_low", "z_err68_high"),
                ("z_err95_low", "z_err95_high"),
                "z_quantiles",
                "z_median",
            ),
            unit="",
            ucd="src.redshift.phot",
            description="Redshift",
            title="Redshift",
            symbol="z",
            axis_unit="",
            known="known redshift",
            scale="log1p",
            main=True,
            by_spectra=JudgedColumns("z_spec_model", error="z_spec_err"),
        ),
        TargetRecord(
            name="star",
            head="classes",
            judged=JudgedColumns("prob_star"),
            unit="",
            ucd="stat.probability;src.class.starGalaxy",
            description="Probability of a star rather than a galaxy",
            title="Star / galaxy",
            symbol="P(star)",
            axis_unit="",
            known="known class",
        ),
        TargetRecord(
            name="log_mass",
            head="point",
            judged=_interval("log_mass"),
            unit="[solMass]",
            ucd="phys.mass",
            description="log10 of the stellar mass in solar masses",
            title="Stellar mass",
            symbol=r"$\log_{10}(M_{*}/M_\odot)$",
            axis_unit="dex",
            known="known stellar mass",
        ),
        TargetRecord(
            name="spectral_type",
            head="point",
            judged=_interval("spectral_type"),
            unit="",
            ucd="src.spType",
            description="Spectral type on the survey's scale",
            title="Spectral type",
            symbol="spectral type",
            axis_unit="",
            known="known spectral type",
        ),
        TargetRecord(
            name="abs_mag_b",
            head="point",
            judged=_interval("abs_mag_b"),
            unit="mag",
            ucd="phys.magAbs;em.opt.B",
            description="Absolute AB magnitude in Johnson B",
            title="Absolute magnitude B",
            symbol="$M_B$",
            axis_unit="mag",
            known="known absolute magnitude",
            reversed_axes=True,
        ),
    )
}
"""Every target, by its name."""
