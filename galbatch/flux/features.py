"""Inputs of the network: fluxes and shapes as numbers near one."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.arrays import constant, namespace
from galbatch.errors import SpecError
from galbatch.spec.survey import Band
from galbatch.values import FluxBlock

_FIT_ROWS = 50_000
# Standardised values are bent to stay within this many robust standard deviations.
_CLIP = np.float32(4.0)
# A relative flux error is told apart down to this fraction of the band's noise.
_SMALLEST_ERROR = np.float32(1e-3)


@dataclass(frozen=True)
class FeatureRecipe:
    """How features are made: learnt on training rows, kept in the model's card.

    Parameters
    ----------
    bands : tuple of str
        Of the FluxBlock's columns, in their order.
    order : tuple of int
        The bands by wavelength: neighbours make colours.
    softening : tuple of float
        Flux (microjansky) at which each band's asinh magnitude turns linear: its typical noise.
    morphology : tuple of str
        Columns with size and shape, in their order.
    names : tuple of str
        All features that can be made.
    kept : tuple of int
        Those that vary in the training rows, as positions in `names`.
    centre, scale : tuple of float
        Median and robust standard deviation of each of `names`.
    """

    bands: tuple[str, ...]
    order: tuple[int, ...]
    softening: tuple[float, ...]
    morphology: tuple[str, ...]
    names: tuple[str, ...]
    kept: tuple[int, ...]
    centre: tuple[float, ...]
    scale: tuple[float, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features, in the order of the matrix' columns."""
        return tuple(self.names[index] for index in self.kept)

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        return {key: list(value) for key, value in vars(self).items()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> FeatureRecipe:
        """The inverse of `to_json`."""
        return cls(**{key: tuple(value) for key, value in record.items()})


def learn_features(
    block: FluxBlock,
    bands: Sequence[Band],
    shapes: NDArray[np.float64],
    morphology: Sequence[str],
) -> FeatureRecipe:
    """The recipe for a survey, from training rows.

    Parameters
    ----------
    block : FluxBlock
        Training rows, NumPy.
    bands : sequence of Band
        Of its columns.
    shapes : ndarray, shape (n, m)
        Morphology columns, NaN where missing.
    morphology : sequence of str
        Their names.

    Returns
    -------
    FeatureRecipe

    Raises
    ------
    SpecError
        If no feature varies: there is nothing to learn from.
    """
    step = max(1, len(block) // _FIT_ROWS)
    block = FluxBlock(*(array[::step] for array in vars(block).values()))
    shapes = shapes[::step]
    noise = np.where(block.observed, block.error, np.nan)
    softening = np.nan_to_num(_percentiles(noise, [50.0])[0], nan=1.0)
    order = np.argsort([band.wavelength for band in bands], kind="stable")
    labels = [band.name for band in bands]
    pairs = itertools.pairwise(order)
    names = (
        *(f"asinh {name}" for name in labels),
        *(f"colour {labels[blue]} - {labels[red]}" for blue, red in pairs),
        *(f"error {name}" for name in labels),
        *(f"shape {name}" for name in morphology),
        *(f"observed {name}" for name in labels),
        *(f"limit {name}" for name in labels),
        *(f"missing {name}" for name in morphology),
    )
    recipe = FeatureRecipe(
        bands=tuple(labels),
        order=tuple(int(index) for index in order),
        softening=tuple(float(value) for value in softening),
        morphology=tuple(morphology),
        names=names,
        kept=tuple(range(len(names))),
        centre=(0.0,) * len(names),
        scale=(1.0,) * len(names),
    )
    measured, known, flags = _measure(recipe, block, shapes)
    measured = np.where(known, measured, np.nan)
    low, centre, high = _percentiles(measured, [16.0, 50.0, 84.0])
    scale = (high - low) / 2
    # A column that is mostly one value still carries information where it differs.
    ranged = np.nan_to_num(_range(measured))
    scale = np.where(scale > 0, scale, ranged / 4)
    varies = np.concatenate([ranged > 0, flags.min(axis=0) < flags.max(axis=0)])
    if not varies.any():
        raise SpecError("training rows", "no band varies from row to row", "are these fluxes?")
    still = np.zeros(flags.shape[1])
    return FeatureRecipe(
        **{
            **vars(recipe),
            "kept": tuple(int(index) for index in np.flatnonzero(varies)),
            "centre": tuple(float(x) for x in np.concatenate([np.nan_to_num(centre), still + 0.5])),
            "scale": tuple(
                float(x) for x in np.concatenate([np.where(scale > 0, scale, 1.0), still + 0.5])
            ),
        }
    )


def features(recipe: FeatureRecipe, block: FluxBlock, shapes: Any) -> Any:
    """The network's inputs.

    Parameters
    ----------
    recipe : FeatureRecipe
    block : FluxBlock
        n rows of the recipe's bands.
    shapes : array, shape (n, m)
        The recipe's morphology columns, NaN where missing.

    Returns
    -------
    array, shape (n, f), float32
        C-contiguous, finite, one column per `recipe.columns`: 0 where the measurement behind it is
        missing, -1 or 1 for a flag.

    Notes
    -----
    Fluxes become asinh magnitudes (Lupton, Gunn & Szalay 1999, AJ 118, 1406) in natural-log units,
    asinh(f / 2b) with b the band's typical noise: logarithmic for bright objects, linear through
    zero and into negative fluxes. Colours are their differences between neighbouring bands.
    """
    xp = namespace(block.flux)
    measured, known, flags = _measure(recipe, block, shapes)
    centre, scale = (constant(xp, of, xp.float32) for of in (recipe.centre, recipe.scale))
    split = measured.shape[1]
    measured -= centre[:split]
    measured /= scale[:split]
    # Compressed smoothly, so that one odd band cannot push the network where it was never trained.
    measured /= xp.sqrt(1 + xp.square(measured / _CLIP))
    xp.copyto(measured, 0, where=~known)
    whole = xp.concatenate([measured, flags.astype(xp.float32) * 2 - 1], axis=1)
    if len(recipe.kept) == len(recipe.names):
        return whole
    return xp.take(whole, constant(xp, recipe.kept, xp.intp), axis=1)


def _measure(recipe: FeatureRecipe, block: FluxBlock, shapes: Any) -> tuple[Any, Any, Any]:
    """Measurements, which of them are known, and flags."""
    xp = namespace(block.flux)
    soft = constant(xp, recipe.softening, xp.float32)
    asinh = xp.arcsinh(block.flux / (2 * soft))
    error = xp.log(block.error / soft + _SMALLEST_ERROR)
    order = constant(xp, recipe.order, xp.intp)
    sorted_, seen = asinh[:, order], block.observed[:, order]
    colour = sorted_[:, :-1] - sorted_[:, 1:]
    shaped = xp.isfinite(shapes)
    with np.errstate(over="ignore"):
        shape = xp.where(shaped, shapes, 0).astype(xp.float32)
    shaped &= xp.isfinite(shape)
    shape = xp.where(shaped, shape, xp.float32(0))
    measured = xp.concatenate([asinh, colour, error, shape], axis=1)
    known = xp.concatenate(
        [block.observed, seen[:, :-1] & seen[:, 1:], block.observed, shaped], axis=1
    )
    limit = block.observed & ~block.detected
    return measured, known, xp.concatenate([block.observed, limit, ~shaped], axis=1)


def _percentiles(matrix: NDArray[Any], levels: Sequence[float]) -> NDArray[np.float64]:
    """Percentiles of each column's finite values, NaN where there are none."""
    result = np.full((len(levels), matrix.shape[1]), np.nan)
    for index in range(matrix.shape[1]):
        column = matrix[:, index]
        column = column[np.isfinite(column)]
        if column.size:
            result[:, index] = np.percentile(column, levels)
    return result


def _range(matrix: NDArray[Any]) -> NDArray[np.float64]:
    low, high = _percentiles(matrix, [0.0, 100.0])
    return np.asarray(high - low)
