"""Bases of smooth continua with lines, and noisy spectra made of them."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from galbatch.spectra.grids import LogGrid
from galbatch.spectra.templates import Basis, star_bases

Array = NDArray[np.float64]

# Coarser than SDSS, and short: a scan takes milliseconds.
GRID = LogGrid(3.58, 4e-4, 600)
RATIOS = {"GALAXY": (1.0, 0.4, 0.3), "QSO": (1.0, 0.3, 0.1)}


def line(grid: LogGrid, wavelength: float, pixels: float) -> Array:
    away = (grid.logarithms - np.log10(wavelength)) / grid.step
    return np.exp(-0.5 * (away / pixels) ** 2)


def ripples(grid: LogGrid, seed: int, pixels: float) -> Array:
    """Structure everywhere, so that no vector looks like a polynomial in any window."""
    noise = np.random.default_rng(seed).standard_normal(grid.points)
    away = np.arange(-60, 61) / pixels
    kernel = np.exp(-0.5 * away**2)
    return np.convolve(noise, kernel / np.sqrt((kernel**2).sum()), mode="same")


@cache
def toy_bases() -> tuple[Basis, ...]:
    return (galaxy(), quasar(), *stars())


def galaxy() -> Basis:
    grid = LogGrid(3.2, 4e-4, 2100)
    x = np.linspace(-1, 1, grid.points)
    old = 1 + 0.5 * np.tanh(8 * (x + 0.3)) - 0.4 * line(grid, 3969, 4) - 0.3 * line(grid, 5175, 5)
    young = np.exp(-1.2 * x) - 0.3 * line(grid, 4102, 4)
    lines = line(grid, 3728, 2) + line(grid, 5008, 2) + 0.3 * line(grid, 4960, 2)
    vectors = np.stack([old, young, lines + 1.2 * line(grid, 6564, 2)])
    vectors += [0.05 * ripples(grid, seed, 3) for seed in (1, 2, 3)]
    return Basis("toy galaxy", "GALAXY", "", vectors, grid, (-0.003, 0.5))


def quasar() -> Basis:
    grid = LogGrid(2.9, 4e-4, 2700)
    x = np.linspace(-1, 1, grid.points)
    lines = line(grid, 1549, 12) + 0.7 * line(grid, 1909, 14) + 0.8 * line(grid, 2799, 13)
    lines += 0.5 * line(grid, 4862, 14) + 2 * line(grid, 1216, 10) + line(grid, 6564, 15)
    vectors = np.stack([np.exp(-1.5 * x) + lines, lines, np.exp(1.5 * x)])
    vectors += [0.08 * ripples(grid, seed, 12) for seed in (4, 5, 6)]
    return Basis("toy quasar", "QSO", "", vectors, grid, (0.003, 2.5))


def stars() -> list[Basis]:
    grid = LogGrid(3.5, 4e-4, 1000)
    made = []
    for kelvin in (4000, 5000, 6500, 9000):
        planck = grid.wavelengths**-5 / np.expm1(1.4388e8 / (grid.wavelengths * kelvin))
        depth = 0.6 * line(grid, 4862, 3 + kelvin / 3000) + 0.5 * line(grid, 4341, kelvin / 3000)
        metals = line(grid, 5175, 8) + line(grid, 5890, 3) + line(grid, 3969, 5)
        cool = max(0.0, (8000 - kelvin) / 8000)
        made.append(planck / planck.mean() * (1 - depth * kelvin / 9000 - cool * metals))
    return star_bases(["M", "K", "G", "A"], np.array(made), grid)


def spectrum(basis: Basis, shift: int, ratios: tuple[float, ...] = (1.0,)) -> Array:
    """On the grid, moved to the red by whole pixels."""
    start = round((GRID.first - basis.grid.first) / GRID.step) - shift
    return np.asarray(ratios) @ basis.vectors[:, start : start + GRID.points]


def observed(seed: int, each: int, signal: float) -> tuple[Array, Array, Array, Array]:
    """Flux, inverse variance, class and shift of noisy spectra, as many of each class."""
    rng = np.random.default_rng(seed)
    bases = toy_bases()
    flux, kinds, shifts = [], [], []
    for kind, low, high in (("GALAXY", 20, 400), ("QSO", 100, 1300), ("STAR", -3, 4)):
        for _ in range(each):
            own = [base for base in bases if base.kind == kind]
            base, shift = own[rng.integers(len(own))], int(rng.integers(low, high))
            flux.append(spectrum(base, shift, RATIOS.get(kind, (1.0,))))
            kinds.append(kind)
            shifts.append(shift)
    true = np.array(flux)
    true /= np.median(true, axis=1, keepdims=True)
    ivar = signal**2 * rng.uniform(0.5, 1.5, true.shape)
    ivar[:, 200:206] = 0
    noisy = true + rng.standard_normal(true.shape) / np.sqrt(np.where(ivar > 0, ivar, 1))
    return noisy, ivar, np.array(kinds), np.array(shifts)
