"""How galaxies and stars look on the detection image: sizes, shapes and concentration.

Everything is a Gaussian: a galaxy of half-light radius r has sigma r / sqrt(2 ln 2), the seeing
adds in quadrature, and what is measured scatters with the signal to noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from galbatch.mock.objects import Array, Objects

TO_FWHM = float(2.0 * np.sqrt(2.0 * np.log(2.0)))
"""FWHM of a Gaussian over its sigma."""

TO_HALF_LIGHT = float(np.sqrt(2.0 * np.log(2.0)))
"""Radius with half of the light of a round Gaussian over its sigma."""


@dataclass(frozen=True)
class Image:
    """Measured sizes and shapes; lengths in arcsec.

    Parameters
    ----------
    semi_major, semi_minor : array, shape (n,)
        Profile rms along the axes.
    fwhm : array, shape (n,)
    half_light : array, shape (n,)
        Radius with half of the light.
    position_angle : array, shape (n,)
        Degrees.
    noise_factor : array, shape (n,), float32
        Noise in the object's aperture over that of a point source.
    """

    semi_major: Array
    semi_minor: Array
    fwhm: Array
    half_light: Array
    position_angle: Array
    noise_factor: NDArray[np.float32]


def detection_image(
    rng: np.random.Generator, objects: Objects, ratio: Array, weight: Array, seeing: float
) -> Image:
    """Blur objects with the seeing, and measure their sizes and shapes.

    Parameters
    ----------
    rng : numpy.random.Generator
    objects : Objects
    ratio : array, shape (n,)
        Flux in the detection band over the noise of a point source.
    weight : array, shape (n,)
        Exposure, relative to the deepest part of the survey.
    seeing : float
        FWHM of a point source, arcsec.

    Returns
    -------
    Image
    """
    rows = len(objects)
    point = seeing / TO_FWHM * (1.0 + 0.03 * rng.standard_normal(rows))
    spread = objects.radius / TO_HALF_LIGHT
    major = np.hypot(point, spread)
    minor = np.hypot(point, spread * objects.axis_ratio)
    noise = np.clip(np.sqrt(major * minor) * TO_FWHM / seeing, 1.0, 6.0) / np.sqrt(weight)
    blur = 0.01 + 0.7 / np.maximum(ratio / noise, 3.0)
    major = major * np.exp(blur * rng.standard_normal(rows))
    minor = minor * np.exp(blur * rng.standard_normal(rows))
    core = np.exp(0.7 * blur * rng.standard_normal(rows))
    size = np.sqrt(major * minor)
    return Image(
        semi_major=np.maximum(major, minor),
        semi_minor=np.minimum(major, minor),
        fwhm=TO_FWHM * size * core,
        half_light=TO_HALF_LIGHT * size / core,
        position_angle=rng.uniform(-90.0, 90.0, rows),
        noise_factor=noise.astype(np.float32),
    )


def stellarity(rng: np.random.Generator, size: Array, ratio: NDArray[Any]) -> Array:
    """Like SExtractor's CLASS_STAR: 1 for point sources, 0 for galaxies, undecided when faint.

    Parameters
    ----------
    rng : numpy.random.Generator
    size : array, shape (n,)
        Measured FWHM over that of a point source.
    ratio : array, shape (n,)
        Signal to noise, positive.

    Returns
    -------
    array, shape (n,)
        In [0, 1].
    """
    sure = expit(-2.5 * ((size - 1.0) / (0.05 + 0.8 / ratio) - 1.5))
    doubt = 1.0 / (1.0 + (ratio / 12.0) ** 2)
    return np.asarray((1.0 - doubt) * sure + doubt * (0.3 + 0.4 * rng.random(len(size))))
