"""Redshifts of galaxies and quasars by ten sub-networks for each subclass.

After GaSNet-II, which has a network for each of six subclasses, ten sub-networks each, whose mean
is the redshift and whose spread is its error. Three things differ, so that two cores can fit them
in a minute. All sub-networks share the layers that read the spectrum. They read it at rest by the
redshift of a scan and say how far that is off, within 0.011 of 1 + z: when they are taught, spectra
are moved to and fro by as much, so that they have to find the lines themselves, and what they say
does not lean on where the scan's minimum is. And each says an error of its own beside its redshift:
sub-networks that share what they read are alike in what they get wrong, so that their spread alone
is a tenth of the error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.spectra.errors import ErrorModel
from galbatch.spectra.network_input import BIN, NetworkInput
from galbatch.values import PredictedColumn

NETWORK = "redshift"
SUB_NETWORKS = 10
FARTHEST = 24
"""Of the network's pixels: how far spectra are moved when it is taught."""
_LARGEST = 10.0
"""Natural logarithm of an error in pixels, beyond which it is none."""

Array = NDArray[np.float64]

COLUMNS = (
    PredictedColumn(
        "z_network", "float64", "", "src.redshift",
        "Redshift by the networks of the subclass, within 0.011 (1 + z) of z_spec_model; none of "
        "stars",
    ),
    PredictedColumn(
        "z_network_err", "float32", "", "stat.error;src.redshift", "Its 1-sigma error, calibrated"
    ),
)  # fmt: skip


def extragalactic(subclasses: list[str]) -> list[str]:
    """Those of the names of subclasses that are no stars', which stand first."""
    return [name for name in subclasses if not name.startswith("STAR")]


def shown(inputs: NDArray[Any], maker: NetworkInput, moved: NDArray[np.intp]) -> NDArray[Any]:
    """What the network is shown of spectra.

    Parameters
    ----------
    inputs : ndarray, shape (n, maker.size)
        As `NetworkInput` makes them.
    maker : NetworkInput
    moved : ndarray of int, shape (n,)
        By how many of the network's pixels the spectra at rest are moved to the red.

    Returns
    -------
    ndarray of float32, shape (n, 2 maker.rest + 1)
    """
    made = np.zeros((len(inputs), 2 * maker.rest + 1), np.float32)
    at_rest = inputs[:, maker.at_rest].reshape(-1, 2, maker.rest)
    channels = made[:, :-1].reshape(-1, 2, maker.rest)
    for pixels in np.unique(moved).tolist():
        rows = np.flatnonzero(moved == pixels)
        target = slice(max(pixels, 0), maker.rest + min(pixels, 0))
        source = slice(max(-pixels, 0), maker.rest + min(-pixels, 0))
        channels[rows, :, target] = at_rest[rows, :, source]
    made[:, -1] = moved
    return made


def redshifts(
    told: NDArray[np.floating], place: NDArray[np.intp], scanned: Array, maker: NetworkInput
) -> tuple[Array, Array]:
    """Mean and error of the ten sub-networks of each spectrum's subclass.

    Parameters
    ----------
    told : ndarray, shape (n, SUB_NETWORKS, 2 k)
        What the network of k subclasses says.
    place : ndarray of int, shape (n,)
        Of the subclass; anything for what has none.
    scanned : ndarray, shape (n,)
        The redshifts by which spectra came to rest.
    maker : NetworkInput

    Returns
    -------
    z, error : ndarray, shape (n,)
        The error is the root of the mean square of theirs and of their spread, not calibrated.
    """
    count = told.shape[2] // 2
    rows = np.arange(len(told))
    place = np.minimum(place, count - 1)
    own = told[rows, :, place].astype(np.float64)
    width = np.exp(np.minimum(told[rows, :, count + place].astype(np.float64), _LARGEST))
    error = np.sqrt(np.square(width).mean(axis=1) + own.var(axis=1))
    z = maker.redshifts(scanned, own.mean(axis=1))
    return z, error * BIN * maker.grid.step * np.log(10.0) * (1.0 + z)


def calibrated(
    error: Array, z: Array, seen: Array, names: NDArray[np.str_], models: dict[str, ErrorModel]
) -> Array:
    """Errors by what held-out spectra of the same subclass taught; NaN of other subclasses."""
    made = np.full(len(z), np.nan)
    for name, model in models.items():
        rows = names == name
        made[rows] = model.errors(error[rows], z[rows], seen[rows])
    return made
