"""Rest-frame spectra of the libraries in pixels of a spectrograph: 1e-4 in log10, in vacuum.

`library` has pixels of 300 km/s, enough for bands. ``optical.npz``, made by
``tools/build_optical.py``, has what is finer, as principal components of the ratio of the fine to
the coarse spectrum: for galaxies from 1260 to 8750 Angstrom, for stars of types O to M3 from 3560
to 8700. Elsewhere the coarse spectra are interpolated. Between 3540 and 7410 Angstrom the detail is
MILES' (2.5 Angstrom FWHM, 64 km/s at 5000 Angstrom); it stands for the spectrograph's, and no other
is laid over it.

A star's detail is that of the stellar populations that it is most like (see the tool); at the
atlas's own resolution of some 9 Angstrom the spectrum is what was observed.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.mock.library import load_galaxies, load_stars
from galbatch.mock.objects import Array
from galbatch.spectra.grids import SDSS_STEP, LogGrid
from galbatch.spectra.medium import vacuum_wavelengths

REST = LogGrid(2.74, SDSS_STEP, 13_500)
"""Pixels of the rest frame: 550 Angstrom, which is in the optical at redshift 5, to 1.2 microns."""

LYMAN_LIMIT = 911.75


@cache
def galaxy_spectra() -> NDArray[np.float32]:
    """Stars and nebular continuum of the library's galaxies.

    Returns
    -------
    array, shape (n_sed, REST.points)
        In L_sun / Angstrom / M_sun, 0 below the Lyman limit; shared and read-only.
    """
    library = load_galaxies()
    return _fine("galaxy", library.wavelength, library.continuum)


@cache
def star_spectra() -> NDArray[np.float32]:
    """The library's stars.

    Returns
    -------
    array, shape (n_star, REST.points)
        Per Angstrom, mean 1 over 7000-9000 Angstrom; held below 3000 Angstrom, where the library
        ends; shared and read-only.
    """
    library = load_stars()
    return _fine("star", library.wavelength, library.flux)


def _fine(
    kind: str, wavelength: NDArray[np.float64], coarse: NDArray[np.float32]
) -> NDArray[np.float32]:
    vacuum = vacuum_wavelengths(wavelength)
    found = np.array([np.interp(REST.wavelengths, vacuum, row) for row in coarse], np.float32)
    path = files("galbatch.mock") / "optical.npz"
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        first, _, points = archive["grid"]
        basis = archive[f"{kind}_basis"].astype(np.float64)
        weight = archive[f"{kind}_weight"].astype(np.float64)
    start = round((first - REST.first) / SDSS_STEP)
    # einsum: a matrix product's last bits would depend on the threads.
    detail = np.maximum(1.0 + np.einsum("nk,km->nm", weight, basis), 0.05)
    found[:, start : start + int(points)] *= detail.astype(np.float32)
    if kind == "galaxy":
        found[:, REST.wavelengths < LYMAN_LIMIT] = 0.0
    found.setflags(write=False)
    return found


def shifted(
    spectra: NDArray[np.float32],
    rows: NDArray[np.integer[Any]],
    weights: NDArray[np.floating[Any]],
    position: Array,
    sigma: Array,
    points: int,
) -> NDArray[np.float32]:
    """Pieces of mixtures of spectra, each moved by a fraction of a pixel and broadened.

    A redshift is a shift on a logarithmic grid. The shift is made in Fourier space, where it is
    exact for what the pixels can hold, together with a Gaussian.

    Parameters
    ----------
    spectra : array, shape (k, REST.points)
    rows : array, shape (n, j), int
        Which of them are mixed.
    weights : array, shape (n, j)
        How much of each.
    position : array, shape (n,)
        Where each piece begins, in pixels of `spectra`; may be a fraction. What is before the first
        or behind the last pixel is as that pixel.
    sigma : array, shape (n,)
        Gaussian width in pixels, at least some 0.5: less lets the edges ring.
    points : int
        Pixels of a piece.

    Returns
    -------
    array, shape (n, points)
    """
    whole = np.floor(position).astype(np.intp)
    length = _even(points + 64)
    at = whole[:, None] + np.arange(length)
    np.clip(at, 0, spectra.shape[1] - 1, out=at)
    # Its own middle part is the piece; a ramp takes away the jump from the end to the beginning.
    piece = np.zeros(at.shape, np.float32)
    for row, weight in zip(rows.T, weights.T.astype(np.float32), strict=True):
        piece += weight[:, None] * spectra[row[:, None], at]
    ramp = np.linspace(0.0, 1.0, length, dtype=np.float32)
    jump = piece[:, -1:] - piece[:, :1]
    piece -= jump * ramp
    frequency = np.fft.rfftfreq(length)
    fraction = (position - whole)[:, None]
    turn = np.exp(
        -2.0 * (np.pi * sigma[:, None] * frequency) ** 2 + 2j * np.pi * fraction * frequency
    ).astype(np.complex64)
    moved = np.fft.irfft(np.fft.rfft(piece, axis=1) * turn, length, axis=1)
    slope = (fraction / (length - 1)).astype(np.float32)
    found: NDArray[np.float32] = moved[:, :points].astype(np.float32)
    found += jump * (ramp[:points] + slope)
    return found


def _even(least: int) -> int:
    """The next length that a Fourier transform is fast for: 2^a 3^b 5^c, even."""
    length = least + least % 2
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 2
