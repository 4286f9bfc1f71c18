"""Make ``optical.npz``: ``python tools/build_optical.py OUT``.

What ``library.npz`` lacks for spectra: detail finer than its pixels of 300 km/s. Needs what
``build_library.py`` needs, and is run after it, since it goes with its rows.

**Galaxies.** The same bagpipes models at their own sampling (0.5 to 1 Angstrom from 1250 to 8750
Angstrom; MILES' 2.5 Angstrom wide from 3540 to 7410), in vacuum, divided by the library's spectrum
interpolated. The ratios, near 1, are kept as principal components.

**Stars.** Pickles' atlas has pixels of 5 Angstrom. A star's narrow lines are put back with those of
stellar populations: each star is fitted, at the atlas's resolution and after division by a running
mean, by a combination of the populations' spectra of every age and metallicity (weights may be
negative: differences of populations are the stars that leave the main sequence between their ages).
The ratio of the combination at full resolution to the same combination at the atlas's is the detail
wanted. At the atlas's resolution a star stays what was observed. The fit's velocity is taken out:
the atlas is made of several sources, whose zero points differ.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from build_library import BIRTH_CLOUD_GYR, _recipes, _without_lines
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import linear_sum_assignment

from galbatch.mock.library import load_galaxies, load_stars
from galbatch.spectra.medium import vacuum_wavelengths

Array = NDArray[np.float64]

STEP = 1e-4
FIRST, POINTS = 3.1, 8420
"""log10 of the first wavelength, and pixels, to 8750 Angstrom."""

GALAXY_RANK, STAR_RANK = 40, 32
ATLAS_SIGMA = 4.0
"""Gaussian width of the atlas in pixels: about 9 Angstrom FWHM at 5000 Angstrom."""
RUNNING = 300.0
"""Width in pixels of the running mean that a star is divided by for the fit."""
RIDGE = 2e-4
SHIFTS = np.arange(-6.0, 6.01, 0.25)
UNLIKE = 0.035
"""What is left of a star's fit, relative, from which on it has no detail: M4 and later."""
STAR_RANGE = (3560.0, 8700.0)


def main() -> None:
    """Build from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, help="the .npz file to write")
    arguments = parser.parse_args()
    columns: dict[str, NDArray[Any]] = {"grid": np.array([FIRST, STEP, POINTS])}
    for kind, ratio, rank in (
        ("galaxy", galaxy_detail(), GALAXY_RANK),
        ("star", star_detail(), STAR_RANK),
    ):
        left, strength, right = np.linalg.svd(ratio - 1.0, full_matrices=False)
        kept = (left[:, :rank] * strength[:rank]) @ right[:rank]
        print(kind, "rms of what is left out:", float(np.std(ratio - 1.0 - kept)))
        scale = np.abs(right[:rank]).max(axis=1, keepdims=True)
        columns[f"{kind}_basis"] = (right[:rank] / scale).astype(np.float16)
        weight = left[:, :rank] * strength[:rank] * scale[:, 0]
        columns[f"{kind}_weight"] = weight.astype(np.float32)
    # numpy types the keyword arguments as its own options.
    np.savez_compressed(arguments.out, **columns)  # type: ignore[arg-type]


def _edges() -> Array:
    return np.asarray(10.0 ** (FIRST + STEP * (np.arange(POINTS + 1) - 0.5)))


def _rebin(wave: Array, flux: Array, edges: Array) -> Array:
    """Mean over each pixel, (..., points)."""
    middle = 0.5 * (flux[..., 1:] + flux[..., :-1]) * np.diff(wave)
    total = np.concatenate([np.zeros((*flux.shape[:-1], 1)), np.cumsum(middle, axis=-1)], axis=-1)
    at = np.clip(np.searchsorted(wave, edges) - 1, 0, len(wave) - 2)
    share = (edges - wave[at]) / (wave[at + 1] - wave[at])
    # A trapezoid's integral is a parabola between the samples.
    rise = flux[..., at + 1] - flux[..., at]
    width = wave[at + 1] - wave[at]
    inside = total[..., at] + width * (share * flux[..., at] + 0.5 * share**2 * rise)
    return np.asarray(np.diff(inside, axis=-1) / np.diff(edges))


def galaxy_detail() -> Array:
    """Fine over coarse spectrum of each galaxy of the library, shape (n_sed, points)."""
    from bagpipes import config
    from bagpipes.models.nebular_model import nebular
    from bagpipes.models.star_formation_history import star_formation_history
    from bagpipes.models.stellar_model import stellar

    inside = (config.wavelengths > 1240.0) & (config.wavelengths < 8800.0)
    native = config.wavelengths[inside]
    stars, gas = stellar(native), nebular(native, 0.0)
    library = load_galaxies()
    fine = []
    for recipe in _recipes():
        history = star_formation_history(
            {
                name: {**shape, "metallicity": recipe.metallicity}
                for name, shape in recipe.components
            }
            | {"redshift": 0.0}
        )
        young, old = stars.spectrum(history.ceh.grid, BIRTH_CLOUD_GYR)
        lines = gas.line_fluxes(history.ceh.grid, BIRTH_CLOUD_GYR, recipe.log_u)
        light = gas.spectrum(history.ceh.grid, BIRTH_CLOUD_GYR, recipe.log_u)
        fine.append(young + old + _without_lines(light, native, config.line_wavs, lines))
    spectra = _rebin(vacuum_wavelengths(native), np.array(fine), _edges())
    return np.asarray(_matched(spectra, library.wavelength, library.continuum))


def _matched(fine: Array, wave: Array, coarse: NDArray[np.float32]) -> Array:
    """Put rows in the library's order, each divided by its coarse row: one to one."""
    at = 10.0 ** (FIRST + STEP * np.arange(POINTS))
    vacuum = vacuum_wavelengths(wave)
    row = np.array([np.interp(at, vacuum, one) for one in coarse.astype(float)])
    seen = [np.log(gaussian_filter1d(one, 10.0, axis=1)[:, 200:-200:20]) for one in (row, fine)]
    shape, mine = (one - one.mean(axis=1, keepdims=True) for one in seen)
    distance = np.abs(shape[:, None] - mine[None, :]).mean(axis=2)
    found, order = linear_sum_assignment(distance)
    print("worst match:", float(distance[found, order].max()))
    ratio = fine[order] / row
    return np.asarray(ratio / np.median(ratio, axis=1, keepdims=True))


def star_detail() -> Array:
    """Fine over coarse spectrum of each star of the library, shape (n_star, points)."""
    from bagpipes import config

    library = load_stars()
    wave = vacuum_wavelengths(config.wavelengths)
    inside = (wave > 1240.0) & (wave < 8800.0)
    populations = []
    for grid in config.raw_stellar_grid:
        ages = grid.data[10::4][:, inside]
        populations.append(_rebin(wave[inside], ages.astype(float), _edges()))
    fine = np.concatenate(populations)
    fine /= np.median(fine[:, 4500:7500], axis=1, keepdims=True)
    fine = fine[(fine > 0).all(axis=1)]
    at = 10.0 ** (FIRST + STEP * np.arange(POINTS))
    used = (at > STAR_RANGE[0]) & (at < STAR_RANGE[1])
    blurred = gaussian_filter1d(fine, ATLAS_SIGMA, axis=1)
    running = gaussian_filter1d(fine, RUNNING, axis=1)
    design = (blurred / running)[:, used]
    ratio = np.ones((len(library), POINTS))
    vacuum = vacuum_wavelengths(library.wavelength)
    left, strength, right = np.linalg.svd(design - 1.0, full_matrices=False)
    damped = strength / (strength**2 + (RIDGE * strength[0]) ** 2)
    for index, (name, flux) in enumerate(zip(library.name, library.flux, strict=True)):
        if library.luminosity_class[index] == "WD" or name[0] in "LT" or name in _UNSEEN:
            continue
        best = (np.inf, 0.0, np.zeros(0))
        for shift in SHIFTS:
            star = np.interp(at * 10.0 ** (STEP * shift), vacuum, flux.astype(float))
            wanted = (star / gaussian_filter1d(star, RUNNING))[used] - 1.0
            along = right @ wanted
            fitted = right.T @ (strength * damped * along)
            off = float(np.std(wanted - fitted))
            weight = left @ (damped * along)
            if off < best[0]:
                best = (off, float(shift), weight)
        off, shift, weight = best
        if off > UNLIKE:
            print(f"{name:8s} off {off:.4f}: left as it is")
            continue
        # The weights are those of spectra divided by their running mean.
        detail = 1.0 + (fine / running - 1.0).T @ weight
        plain = gaussian_filter1d(detail, ATLAS_SIGMA)
        moved = np.interp(at * 10.0 ** (STEP * shift), vacuum, flux.astype(float))
        here = np.interp(at, vacuum, flux.astype(float))
        found = np.clip(detail / plain, 0.1, 2.0) * moved / here
        ratio[index, used] = found[used]
        print(f"{name:8s} off {off:.4f} shift {shift:+.2f} detail {np.std(found[used]):.3f}")
    return ratio


_UNSEEN = ("M7V", "M8V", "M9V")
"""Prism spectra, whose blue half is a guess."""

if __name__ == "__main__":
    main()
