"""How much of a prediction's error is the photometry's, and how much the model's.

The fluxes are drawn anew within their errors, and the network is asked again (the future work of
Cacho 2020): the scatter of its answers is what photometric noise does to them. The scatter between
the networks of the ensemble on the same fluxes is what the training sample leaves open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.arrays import constant, namespace
from galbatch.models.heads import Head
from galbatch.values import FluxBlock, PredictedColumn

SHARES = {
    "noise": "when the fluxes are drawn anew within their errors",
    "model": "between the networks of the ensemble, on the same fluxes",
}
"""Endings of the names of the columns of scatter, and what they tell."""


def scatter_columns(head: Head) -> tuple[PredictedColumn, ...]:
    """The columns that `scatter` adds for a head.

    Parameters
    ----------
    head : Head

    Returns
    -------
    tuple of PredictedColumn
        Two for each of `head.scattered`.
    """
    return tuple(
        PredictedColumn(
            f"{column.name}_{share}",
            column.dtype,
            column.unit,
            f"stat.error;{column.ucd}",
            f"Standard deviation of {column.description} {what}",
        )
        for column in head.scattered
        for share, what in SHARES.items()
    )


@lru_cache(maxsize=4)
def noise(draws: int, bands: int, seed: int) -> NDArray[np.float32]:
    """Standard normal noise, quasi-random: a few draws fill the space evenly.

    Every row gets the same draws, times its own errors, so that a row's result depends on that row
    alone.

    Parameters
    ----------
    draws, bands, seed : int

    Returns
    -------
    ndarray, shape (draws, bands), float32
        Each column has mean 0 and variance 1.
    """
    from scipy.stats import qmc

    # Sobol' points are balanced in powers of two only.
    count = 1 << max(draws - 1, 1).bit_length()
    source = qmc.MultivariateNormalQMC(np.zeros(bands), engine=qmc.Sobol(bands, rng=seed))
    normal = source.random(count)[:draws]
    spread = normal.std(axis=0)
    centred = (normal - normal.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return np.asarray(centred, np.float32)


def scatter(
    ask: Callable[[FluxBlock], Any],
    block: FluxBlock,
    outputs: Any,
    heads: Sequence[Head],
    calibration: Mapping[str, Any],
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Scatter of each target by photometric noise and between networks.

    Parameters
    ----------
    ask : callable
        The network's outputs (n, members, outputs) for fluxes.
    block : FluxBlock
        n rows of fluxes, as they were measured.
    outputs : array, shape (n, members, outputs), float32
        The network's answer to them.
    heads : sequence of Head
    calibration : mapping
        Of the card.
    draws : int
        At least 2.
    seed : int

    Returns
    -------
    dict of str to array, shape (n,), float32
        The columns of `scatter_columns`: ``*_noise``, the standard deviation over the draws of the
        ensemble's mean, and ``*_model``, that over the networks of their means (NaN for a single
        one); unit of the target, for the redshift that of z.
    """
    xp = namespace(block.flux)
    rows = constant(xp, noise(draws, block.flux.shape[1], seed), xp.float32)
    answers = _answers(outputs, heads, calibration)
    total = {name: xp.zeros(len(block), xp.float64) for name in answers}
    square = {name: xp.zeros(len(block), xp.float64) for name in answers}
    for row in rows:
        # The error is 0 where nothing was observed, and nothing is added.
        flux = block.flux + row * block.error
        moved = FluxBlock(flux, block.error, block.observed, block.detected, block.saturated)
        for name, each in _answers(ask(moved), heads, calibration).items():
            # Around the answer to the measured fluxes: squares of small numbers lose no digits.
            away = each.mean(axis=1) - answers[name].mean(axis=1)
            total[name] += away
            square[name] += xp.square(away.astype(xp.float64))
    found = {}
    head_of = {column.name: head for head in heads for column in head.scattered}
    for name, each in answers.items():
        variance = (square[name] - xp.square(total[name]) / draws) / (draws - 1)
        members = each.shape[1]
        by_model = each.std(axis=1, ddof=1) if members > 1 else xp.full(len(block), xp.nan)
        step = head_of[name].step(each.mean(axis=1))
        found[f"{name}_noise"] = (step * xp.sqrt(xp.maximum(variance, 0))).astype(xp.float32)
        found[f"{name}_model"] = (step * by_model).astype(xp.float32)
    return found


def _answers(outputs: Any, heads: Sequence[Head], calibration: Mapping[str, Any]) -> dict[str, Any]:
    """What each network says, (n, members), as it is learnt."""
    found: dict[str, Any] = {}
    for head in heads:
        found |= head.members(outputs, calibration)
    return found
