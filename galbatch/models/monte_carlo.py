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
from scipy.stats import qmc

from galbatch.arrays import namespace
from galbatch.models.classes import class_probabilities
from galbatch.models.heads import Head
from galbatch.quality.recalibration import Calibration
from galbatch.values import FluxBlock, PredictedColumn


def apart(columns: Sequence[PredictedColumn]) -> tuple[PredictedColumn, ...]:
    """The columns that `scatter` adds.

    Parameters
    ----------
    columns : sequence of PredictedColumn
        Point values of a target, or the probabilities of its classes.

    Returns
    -------
    tuple of PredictedColumn
    """
    found = []
    for column in columns:
        name = "z" if column.name == "z_mode" else column.name
        ucd = f"stat.error;{column.ucd.removesuffix(';meta.main')}"
        for share, what in (
            ("noise", "when the fluxes are drawn anew within their errors"),
            ("model", "between the networks of the ensemble, on the same fluxes"),
        ):
            said = f"Standard deviation of {'the mean redshift' if name == 'z' else name} {what}"
            found.append(PredictedColumn(f"{name}_{share}", column.dtype, column.unit, ucd, said))
    return tuple(found)


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
        The columns of `apart`: ``*_noise``, the standard deviation over the draws of the ensemble's
        mean, and ``*_model``, that over the networks of their means (NaN for a single one); unit
        of the target, for the redshift that of z.
    """
    xp = namespace(block.flux)
    rows = noise(draws, block.flux.shape[1], seed)
    answers = _answers(outputs, heads, calibration)
    total = {name: xp.zeros(len(block), xp.float64) for name in answers}
    square = {name: xp.zeros(len(block), xp.float64) for name in answers}
    for row in rows:
        # The error is 0 where nothing was observed, and nothing is added.
        flux = block.flux + xp.asarray(row) * block.error
        moved = FluxBlock(flux, block.error, block.observed, block.detected, block.saturated)
        for name, each in _answers(ask(moved), heads, calibration).items():
            # Around the answer to the measured fluxes: squares of small numbers lose no digits.
            away = each.mean(axis=1) - answers[name].mean(axis=1)
            total[name] += away
            square[name] += xp.square(away.astype(xp.float64))
    found = {}
    for name, each in answers.items():
        variance = (square[name] - xp.square(total[name]) / draws) / (draws - 1)
        members = each.shape[1]
        by_model = each.std(axis=1, ddof=1) if members > 1 else xp.full(len(block), xp.nan)
        stretch = xp.exp(each.mean(axis=1)) if name == "z" else 1
        found[f"{name}_noise"] = (stretch * xp.sqrt(xp.maximum(variance, 0))).astype(xp.float32)
        found[f"{name}_model"] = (stretch * by_model).astype(xp.float32)
    return found


def _answers(outputs: Any, heads: Sequence[Head], calibration: Mapping[str, Any]) -> dict[str, Any]:
    """What each network says of each target, (n, members): the redshift as ln(1 + z)."""
    found = {}
    for head in heads:
        if head.target == "star":
            one_by_one = [
                class_probabilities(head, outputs[:, member : member + 1], calibration["star"])
                for member in range(outputs.shape[1])
            ]
            for name in one_by_one[0]:
                found[name] = namespace(outputs).stack([one[name] for one in one_by_one], axis=1)
        else:
            corrections = Calibration.from_json(calibration[head.target])
            name = "z" if head.target == "redshift" else head.target
            found[name] = corrections.straightening.apply(head.means(outputs))
    return found
