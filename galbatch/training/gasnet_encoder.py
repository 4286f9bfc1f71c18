"""Training of the encoder of coefficients on simulated spectra."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from galbatch.mock.spectra import Observing, spectra_in_chunks
from galbatch.mock.targets import of_every_subclass
from galbatch.models.gasnet_encoder import KINDS, NETWORK, VECTORS
from galbatch.spec.spectral_models import GasnetModel
from galbatch.spectra.clean import cleaned
from galbatch.spectra.encoded import systems, unpacked
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.network_input import NetworkInput
from galbatch.spectra.templates import Basis
from galbatch.training.base import OnEpoch
from galbatch.training.gasnet_fit import Lesson, as_they_are, fit_network

_HELD_OUT = 10


def fitted_encoder(
    settings: GasnetModel,
    grid: LogGrid,
    bases: tuple[Basis, ...],
    seed: tuple[int, ...],
    folder: Path,
    progress: OnEpoch,
) -> list[NDArray[Any]]:
    """Fit the encoder and write it.

    It is taught to lose little of what the best coefficients gain in chi-square at the true
    redshift, with the noise's weights, on the spectrum without noise.

    Parameters
    ----------
    settings : GasnetModel
    grid : LogGrid
    bases : tuple of Basis
        Those of `KINDS` first.
    seed : tuple of int
        Of the simulated spectra.
    folder : Path
    progress : callable

    Returns
    -------
    list of ndarray
        Its weights.

    Raises
    ------
    SpecError
        If the fit diverges.
    """
    from galbatch.models.gasnet_networks import build_encoder

    maker = NetworkInput(grid)
    inputs, answers = _lessons(settings, maker, bases, seed, progress)
    held = np.arange(len(inputs)) % _HELD_OUT == 0
    lesson = Lesson(
        NETWORK,
        lambda: build_encoder(maker, len(KINDS), VECTORS),
        _lost,
        settings.learning_rate,
        as_they_are(inputs),
        answers,
        np.flatnonzero(~held),
        np.flatnonzero(held),
    )
    return fit_network(settings, lesson, folder, progress).weights


def _lessons(
    settings: GasnetModel,
    maker: NetworkInput,
    bases: tuple[Basis, ...],
    seed: tuple[int, ...],
    progress: OnEpoch,
) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Galaxies and quasars as observed, and class, right side and matrix of each."""
    with threadpool_limits(limits=1, user_api="blas"):
        parts = list(_chunks(settings, maker, bases, seed, progress))
    inputs, answers = (np.concatenate(part) for part in zip(*parts, strict=True))
    return inputs, answers


def _chunks(
    settings: GasnetModel,
    maker: NetworkInput,
    bases: tuple[Basis, ...],
    seed: tuple[int, ...],
    progress: OnEpoch,
) -> Iterator[tuple[NDArray[np.float16], NDArray[np.float32]]]:
    grid, done = maker.grid, 0
    targets = of_every_subclass(
        np.random.default_rng([*seed, 1]), settings.mocks, longest=float(grid.wavelengths[-1])
    )
    for mocks in spectra_in_chunks(targets, grid, (*seed, 2), Observing()):
        flux, model = mocks.flux.astype(np.float64), mocks.model.astype(np.float64)
        ivar = cleaned(flux, mocks.ivar.astype(np.float64), grid)
        for place, kind in enumerate(KINDS):
            rows = np.flatnonzero((mocks.kind == kind) & (ivar > 0).any(axis=1))
            products, right = systems(
                model[rows], ivar[rows], grid, bases[place], mocks.redshift[rows],
                settings.polynomial,
            )  # fmt: skip
            own = np.tile(np.arange(len(KINDS)) == place, (len(rows), 1))
            seen = maker.as_observed(flux[rows], ivar[rows]).astype(np.float16)
            yield seen, np.concatenate([own, right, products], axis=1).astype(np.float32)
        done += len(mocks)
        progress(done, settings.mocks, "simulated spectra for the encoder")


def _lost(answers: Any, shares: Any) -> Any:
    """The part of the gain of the best coefficients that the shares' best amplitude leaves."""
    from keras import ops

    own, right = answers[:, : len(KINDS), None], answers[:, len(KINDS) : len(KINDS) + VECTORS]
    given = ops.sum(shares * own, axis=1)
    along = ops.sum(given * right, axis=1)
    squared = 0.0
    for row, column, value in unpacked(answers[:, len(KINDS) + VECTORS :], VECTORS):
        squared = squared + value * given[:, row] * given[:, column]
    return 1.0 - along * ops.absolute(along) / ops.maximum(squared, 1e-6)
