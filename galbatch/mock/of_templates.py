"""Observed spectra made of templates that are given: a second source, with nothing of the mock's.

What a classifier learned from the simulated sky is judged on spectra of other origin, such as the
eigenspectra and stellar templates of a survey's pipeline. Their files are read elsewhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from galbatch.mock.objects import Array
from galbatch.mock.optical import shifted
from galbatch.mock.spectra import CHUNK
from galbatch.mock.spectrograph import NO_DATA, Exposures, Spectrograph
from galbatch.spectra.grids import LogGrid

_SIGMA = 0.5


def spectra_of_templates(
    vectors: NDArray[np.floating],
    rest: LogGrid,
    coefficients: Array,
    redshift: Array,
    signal_to_noise: Array,
    grid: LogGrid,
    seed: tuple[int, ...],
    flaws: bool = True,
) -> Exposures:
    """Redshift sums of vectors, and observe them.

    Parameters
    ----------
    vectors : array, shape (k, rest.points)
        Flux per Angstrom, at rest, in vacuum.
    rest : LogGrid
    coefficients : array, shape (n, k)
        As they are drawn from whatever distribution; the level is that which the signal to noise
        has in one set of exposures.
    redshift, signal_to_noise : array, shape (n,)
    grid : LogGrid
        Observed, of the step of `rest`.
    seed : tuple of int
    flaws : bool
        As in `spectrograph.Spectrograph.expose`.

    Returns
    -------
    Exposures
        Without data where the vectors do not reach.

    Raises
    ------
    ValueError
        If the steps differ.
    """
    if abs(grid.step - rest.step) > 1e-9:
        raise ValueError(f"vectors: expected a step of {grid.step:g}, got {rest.step:g}")
    instrument = Spectrograph(grid)
    start = (grid.first - np.log10(1.0 + redshift) - rest.first) / rest.step
    parts = []
    for first in range(0, len(redshift), CHUNK):
        # Whole chunks, as of the mock's own spectra: the same bytes for any number of rows.
        rows = np.minimum(np.arange(first, first + CHUNK), len(redshift) - 1)
        which = np.broadcast_to(np.arange(len(vectors)), (CHUNK, len(vectors)))
        sigma = np.full(CHUNK, _SIGMA)
        light = shifted(
            np.asarray(vectors, np.float32), which, coefficients[rows], start[rows], sigma,
            grid.points,
        )  # fmt: skip
        level = instrument.level(signal_to_noise[rows])
        mean = np.maximum(light.mean(axis=1, dtype=np.float64), 1e-30)
        light *= (level / mean)[:, None].astype(np.float32)
        sequence = np.random.SeedSequence((*seed, first // CHUNK))
        rng = np.random.Generator(np.random.SFC64(sequence))
        seen = instrument.expose(light, signal_to_noise[rows], rng, flaws)
        at = start[rows, None] + np.arange(grid.points)
        outside = (at < 0) | (at > rest.points - 1)
        seen.flux[outside], seen.ivar[outside] = 0.0, 0.0
        seen.mask[outside] |= NO_DATA
        seen.flawed[outside] = False
        parts.append(seen)
    count = len(redshift)
    return Exposures(
        *(
            np.concatenate([getattr(part, name) for part in parts])[:count]
            for name in ("model", "flux", "ivar", "mask", "flawed")
        )
    )
