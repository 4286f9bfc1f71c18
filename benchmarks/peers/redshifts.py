# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = [
#     "pyarrow>=22",
#     "redrock==0.21.0",
# ]
# ///
"""Classes and redshifts of spectra by redrock, on spectra that another process has chosen.

    uv run --script benchmarks/peers/redshifts.py spectra.npz templates eigenspectra.fits out.npz

The environment is this script's own. `spectra.npz` has `flux` and `ivar` (n, m) and `wavelength`
(m,), Angstrom in vacuum; `templates` is a folder of redrock's own templates; its galaxies are not
on PyPI, and SDSS's eigenspectra of galaxies (`eigenspectra.fits`) stand for them. Out come `kind`,
`z`, `z_err`, `zwarn`, `delta_chi2`, `chi2`, and `seconds`, CPU for all spectra on one core without
what is done once. Settings are redrock's defaults; the resolution is a Gaussian of one pixel.
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}

import contextlib
import sys
import time
from pathlib import Path

import numpy as np
from astropy.io import fits
from redrock.targets import DistTargetsCopy, Spectrum, Target
from redrock.templates import DistTemplate, Template, find_templates, load_templates
from redrock.zfind import zfind
from scipy import sparse

GALAXIES = 10 ** np.arange(np.log10(1 - 0.005), np.log10(1 + 1.0), 3e-4) - 1
"""Redrock's own steps, up to where SDSS's eigenspectra still reach over a spectrum."""


def main(spectra: Path, folder: Path, eigenspectra: Path, out: Path) -> None:
    given = np.load(spectra)
    wave = given["wavelength"]
    targets = DistTargetsCopy(
        [
            Target(number, [Spectrum(wave, flux, ivar.copy(), resolution(len(wave)))])
            for number, (flux, ivar) in enumerate(zip(given["flux"], given["ivar"], strict=True))
        ]
    )
    templates = [*load_templates(find_templates(str(folder))), galaxies(eigenspectra)]
    laid_out = [DistTemplate(one, targets.wavegrids()) for one in templates]
    began = time.process_time()
    _, found = zfind(targets, laid_out)
    seconds = time.process_time() - began
    best = found[found["znum"] == 0]
    best = best[np.argsort(best["targetid"])]
    np.savez(
        out, allow_pickle=False, seconds=seconds,
        kind=np.array([str(one).strip() for one in best["spectype"]]),
        z=best["z"], z_err=best["zerr"], zwarn=best["zwarn"],
        delta_chi2=best["deltachi2"], chi2=best["chi2"],
    )  # fmt: skip


def resolution(pixels: int) -> sparse.dia_matrix:
    """A Gaussian of one pixel, rows of which sum to 1."""
    offsets = np.arange(-5, 6)
    weights = np.exp(-0.5 * offsets**2)
    data = np.repeat((weights / weights.sum())[:, None], pixels, axis=1)
    return sparse.dia_matrix((data, offsets), (pixels, pixels))


def galaxies(file: Path) -> Template:
    """SDSS's eigenspectra as redrock has them."""
    with fits.open(file) as parts:
        vectors = np.asarray(parts[0].data, np.float64)
        first, step = parts[0].header["COEFF0"], parts[0].header["COEFF1"]
    wave = 10 ** (first + step * np.arange(vectors.shape[1]))
    return Template(spectype="GALAXY", redshifts=GALAXIES, wave=wave, flux=vectors, subtype="")


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        main(*(Path(word) for word in sys.argv[1:5]))
