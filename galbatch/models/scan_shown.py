"""What a fit of templates shows of a few spectra: the best model, and curves of chi-square."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from galbatch.shown import (
    Chi2Curve,
    Minimum,
    Role,
    RowShown,
    Showing,
    SpectralColumns,
    SpectrumShown,
)
from galbatch.spectra.flags import SpecFlag
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.scan import ScanResult, ScanSettings, curves, models
from galbatch.spectra.templates import KINDS, Basis

Array = NDArray[np.float64]

JUDGED = SpectralColumns(
    "spec_class", "z_spec_model", "z_spec_err", "d_score", "D", "chi2_dof", tuple(KINDS)
)
SHOWING = Showing(
    (
        *(
            Role(f"the surest {kind}: its second minimum is the furthest above the best",
                 "delta_chi2", "largest", ("spec_class", kind))
            for kind in KINDS
        ),
        Role("the least sure: its second minimum is the nearest to the best",
             "delta_chi2", "smallest"),
        Role("the strangest: its reduced chi-square is the largest", "chi2_dof", "largest"),
        Role("the least D: its second minimum is next to the best as a part of chi-square",
             "d_score", "smallest", None, 0.0),
    ),
    ("spec_class", "spec_subclass"),
    JUDGED,
)  # fmt: skip
_SAME = 1e-7
"""Of 1 + z: redshifts of two bases that are one."""


def fits_shown(
    flux: Array,
    ivar: Array,
    grid: LogGrid,
    bases: Sequence[Basis],
    settings: ScanSettings,
    found: ScanResult,
    words: Sequence[str],
    unit: str,
) -> tuple[RowShown, ...]:
    """What is shown of fitted spectra.

    Parameters
    ----------
    flux, ivar : ndarray, shape (n, m)
        A few rows, as they were fitted.
    grid : LogGrid
    bases : sequence of Basis
    settings : ScanSettings
    found : ScanResult
    words : sequence of str
        What to say of each row.
    unit : str
        Of the flux.

    Returns
    -------
    tuple of RowShown, length n
    """
    fitted = models(found, grid, bases)
    made = curves(flux, ivar, grid, bases, settings)
    shown = []
    for row, said in enumerate(words):
        if found.basis[row] < 0:
            shown.append(RowShown(said, None))
            continue
        seen = ivar[row] > 0
        spectrum = SpectrumShown(
            grid.wavelengths, np.where(seen, flux[row], np.nan), fitted[row],
            1.0 / np.sqrt(np.where(seen, ivar[row], np.nan)), unit, "observed",
        )  # fmt: skip
        lines, minima = _minima(made, bases, found, row)
        shown.append(RowShown(said, spectrum, lines, minima))
    return tuple(shown)


def words_of(found: ScanResult, errors: NDArray[np.floating], row: int, beside: str = "") -> str:
    """What a fit finds of one row.

    Parameters
    ----------
    found : ScanResult
    errors : ndarray, shape (n,)
        Of the redshifts, calibrated.
    row : int
    beside : str
        What else is known of it, a sentence.
    """
    if found.basis[row] < 0:
        return "No data: the row has no numbers."
    error = f" ± {errors[row]:.1g}" if np.isfinite(errors[row]) else ""
    name = " ".join([found.kind[row], found.subclass[row]]).strip()
    reduced = found.chi2[row] / max(found.dof[row], 1)
    said = [
        f"{name} at z = {found.z[row]:.5f}{error}, reduced chi-square {reduced:.2f}, with "
        f"P({found.kind[row]}) = {found.probabilities[row, KINDS.index(found.kind[row])]:.3f}."
    ]
    if found.kind_second[row]:
        said.append(
            f"Second minimum: {found.kind_second[row]} at z = {found.z_second[row]:.5f}, "
            f"{found.delta_chi2[row]:.1f} above the best (D = {found.d_score[row]:.2g})."
        )
    else:
        said.append("There is no second minimum.")
    flags = [str(flag.name) for flag in SpecFlag if found.flags[row] & flag]
    said += [f"Flags: {', '.join(flags)}."] if flags else []
    return " ".join([*said, *([beside] if beside else [])])


def _minima(
    made: Sequence[tuple[Array, Array]], bases: Sequence[Basis], found: ScanResult, row: int
) -> tuple[tuple[Chi2Curve, ...], tuple[Minimum, ...]]:
    """Curves of the classes of the best and the second minimum, and where on them these are."""
    wanted = [(str(found.kind[row]), float(found.z[row]))]
    if found.kind_second[row]:
        wanted.append((str(found.kind_second[row]), float(found.z_second[row])))
    lines = {name: _lowest(made, bases, name, row) for name, _ in wanted}
    minima = tuple(
        Minimum(name, z, float(np.interp(z, lines[name].z, lines[name].chi2))) for name, z in wanted
    )
    return tuple(lines.values()), minima


def _lowest(
    made: Sequence[tuple[Array, Array]], bases: Sequence[Basis], kind: str, row: int
) -> Chi2Curve:
    """The lowest chi-square of any template of a class at each redshift."""
    own = [curve for curve, base in zip(made, bases, strict=True) if base.kind == kind]
    z = np.concatenate([redshifts for redshifts, _ in own])
    chi2 = np.concatenate([values[row] for _, values in own])
    order = np.argsort(z, kind="stable")
    z, chi2 = z[order], chi2[order]
    starts = np.flatnonzero(np.concatenate([[True], np.diff(z) > _SAME * (1 + z[1:])]))
    return Chi2Curve(kind, z[starts], np.minimum.reduceat(chi2, starts))
