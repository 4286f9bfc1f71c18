"""Shares of learned eigenspectra in a spectrum, by an encoder.

After GaSNet-III: the encoder reads a spectrum as observed and says, before any redshift is known,
what it is made of: ten numbers that are not below 0 and sum to 1. It differs from the seed in two
things. The eigenspectra are a non-negative factorisation of simulated spectra at rest, and not
learned along with the encoder. And the amplitude, which costs nothing, is solved at every shift.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.arrays import to_numpy, upload
from galbatch.models.runtime import Network, open_network
from galbatch.spectra.encoded import encoded_scan
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.network_input import NetworkInput
from galbatch.spectra.scan import ScanResult, ScanSettings
from galbatch.spectra.templates import Basis

NETWORK = "encoder"
VECTORS = 10
"""Of each basis, as in the seed."""
KINDS = ("GALAXY", "QSO")
"""Classes that have shares, in the order of the bases; stars have templates of one vector."""


class Encoder:
    """Finds classes and redshifts with coefficients that the network gives.

    Parameters
    ----------
    folder : Path
        With the network.
    grid : LogGrid
    bases : sequence of Basis
        Of `KINDS` first.
    settings : ScanSettings
    xp : module
        NumPy or cupy: where the network computes. The scan is NumPy's.
    """

    def __init__(
        self, folder: Path, grid: LogGrid, bases: Sequence[Basis], settings: ScanSettings, xp: Any
    ) -> None:
        self._grid, self._bases, self._settings, self._xp = grid, tuple(bases), settings, xp
        self._input = NetworkInput(grid)
        self._network: Network = open_network(folder, NETWORK, self._built, xp)

    def _built(self) -> Any:
        from galbatch.models.device import prepare_tensorflow

        prepare_tensorflow()
        from galbatch.models.gasnet_networks import build_encoder

        return build_encoder(self._input, len(KINDS), VECTORS)

    def shares(self, flux: NDArray[np.float64], ivar: NDArray[np.float64]) -> NDArray[np.float32]:
        """Of the vectors of each basis, of shape (n, len(KINDS), VECTORS)."""
        (given,) = upload(self._xp, self._input.as_observed(flux, ivar))
        return np.asarray(to_numpy(self._network(given)), np.float32)

    def scan(self, flux: NDArray[np.float64], ivar: NDArray[np.float64]) -> ScanResult:
        """As `galbatch.spectra.scan.scan`."""
        shares = self.shares(flux, ivar)
        return encoded_scan(flux, ivar, self._grid, self._bases, shares, self._settings)
