"""What the scan's defaults rest on: simulated spectra, by penalty, width and the number of vectors.

    GALBATCH_DATA=... python benchmarks/spectra_choices.py [--each 150] [--seed 1]

Spectra of the simulated sky, as many galaxies, quasars and stars, at two levels of noise, are
fitted with SDSS's templates, which know nothing of them. No real spectrum has a part in it. Prints
for each choice the share of right classes, those of each class, good redshifts (within 0.001 for
galaxies and stars, 0.01 for quasars), and how D ranks the others (AUC).
"""

from __future__ import annotations

import argparse
import os

os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1"))

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from spectra_scan import GRID, LIMITS, auc, load_bases

from galbatch.mock.spectra import Observing, observed_spectra
from galbatch.mock.targets import of_every_subclass
from galbatch.spectra.clean import cleaned
from galbatch.spectra.scan import ScanSettings, scan
from galbatch.spectra.templates import KINDS, Basis, read_sdss

Array = NDArray[np.float64]
SIGNALS = (1.0, 2.0)
USED = ScanSettings()
CHOICES: tuple[tuple[str, int, ScanSettings], ...] = (
    *(
        (f"penalty {value:g}", 4, replace(USED, penalty=value))
        for value in (0.0, 2.0, 4.0, 5.0, 6.0, 8.0)
    ),
    *((f"width {value:g}", 4, replace(USED, width=value)) for value in (0.0, 0.001, 0.002, 0.004)),
    *((f"degree {value}", 4, replace(USED, degree=value)) for value in (1, 2, 3)),
    *((f"quasars by {value}", value, USED) for value in (3, 4, 5, 6, 10)),
)


def sample(each: int, seed: int, signal: float) -> tuple[Array, Array, NDArray[np.str_], Array]:
    """Flux, inverse variance, class and redshift of as many of each class."""
    targets = of_every_subclass(np.random.default_rng(seed), 8 * each, signal)
    rows = np.concatenate([np.flatnonzero(targets.kind == kind)[:each] for kind in KINDS])
    found = observed_spectra(targets.taken(rows), GRID, (seed,), Observing())
    flux, ivar = (np.asarray(values, np.float64) for values in (found.flux, found.ivar))
    return flux, cleaned(flux, ivar, GRID), found.kind, found.redshift


def bases_with(folder: Path, quasars: int) -> tuple[Basis, ...]:
    """SDSS's, with so many vectors of quasars."""
    file = folder / "spectral_templates" / "spEigenQSO-58596.fits"
    (quasar,) = read_sdss(file, "QSO", most=quasars)
    return tuple(quasar if basis.kind == "QSO" else basis for basis in load_bases(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--each", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    folder = Path(os.environ.get("GALBATCH_DATA", "data"))
    if not (folder / "spectral_templates").is_dir():
        print(f"skipped: {folder / 'spectral_templates'} is not a folder (set GALBATCH_DATA)")
        return
    for signal in SIGNALS:
        flux, ivar, kind, z = sample(asked.each, asked.seed, signal)
        limit = np.array([LIMITS[one] for one in kind])
        print(f"median S/N {signal:g}, {asked.each} of each class")
        print(f"  {'':<16} class " + "".join(f"{one:>8}" for one in (*KINDS, *KINDS)) + "   AUC")
        for name, quasars, settings in CHOICES:
            found = scan(flux, ivar, GRID, bases_with(folder, quasars), settings)
            right, good = found.kind == kind, abs(found.z - z) < limit * (1 + z)
            shares = [values[kind == one].mean() for values in (right, good) for one in KINDS]
            print(f"  {name:<16} {right.mean():.3f} " + "".join(f"{one:8.3f}" for one in shares)
                  + f"  {auc(found.d_score, ~good):.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
