"""Minima of curves of chi-square: which hypotheses are worth an exact look, and which are apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from galbatch.spectra.stacks import Stack
from galbatch.spectra.templates import KINDS

Array = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Minima:
    """Local minima of a batch's curves, in no order; arrays of one length.

    Parameters
    ----------
    row : ndarray of int64
    stack, basis, place : ndarray of int64
        Of which stack, which of its bases, and at which of its shifts.
    shift : ndarray of int64
        In pixels to the red.
    kind : ndarray of int64
        Place in `templates.KINDS`.
    score : ndarray of float64
        What hypotheses are compared by.
    """

    row: Places
    stack: Places
    basis: Places
    place: Places
    shift: Places
    kind: Places
    score: Array

    def part(self, chosen: NDArray[np.generic]) -> Minima:
        """Some of them."""
        return Minima(**{name: value[chosen] for name, value in vars(self).items()})


def lone(curves: Array) -> Array:
    """Curves with infinity where they are no local minimum; an end that is lower than its
    neighbour is one.

    Parameters
    ----------
    curves : ndarray, shape (..., s)
        Equal neighbours count once.

    Returns
    -------
    ndarray, shape (..., s)
    """
    found = np.full_like(curves, np.inf)
    if curves.shape[-1] == 1:
        return curves.copy()
    lower = curves[..., 1:] < curves[..., :-1]
    middle = lower[..., :-1] & ~lower[..., 1:]
    np.copyto(found[..., 1:-1], curves[..., 1:-1], where=middle)
    np.copyto(found[..., 0], curves[..., 0], where=~lower[..., 0])
    np.copyto(found[..., -1], curves[..., -1], where=lower[..., -1])
    return found


def minima_of(
    curves: Sequence[Array],
    places: Sequence[Places],
    stacks: Sequence[Stack],
    wide: Array,
    apart: int,
) -> Minima:
    """All minima within a margin of each row's best, and for each class its best two.

    Between shifts of a step above 1 a minimum is where a parabola has it.

    Parameters
    ----------
    curves : sequence of ndarray, shape (n, b, s)
        Scores of each stack.
    places : sequence of ndarray, shape (s,)
        At which of the stack's shifts.
    stacks : sequence of Stack
    wide : ndarray, shape (n,)
        The margin.
    apart : int
        Pixels that two minima of a class are apart at least, to count as two.

    Returns
    -------
    Minima
        None twice.
    """
    alone = [lone(curve) for curve in curves]
    best = np.min([curve.min(axis=(1, 2)) for curve in alone], axis=0)
    chosen = [curve < (best + wide)[:, None, None] for curve in alone]
    for kind in range(len(KINDS)):
        own = [place for place, stack in enumerate(stacks) if _kind(stack) == kind]
        if own:
            _choose_two(alone, places, stacks, chosen, own, apart)
    return _joined(curves, places, stacks, chosen)


def _kind(stack: Stack) -> int:
    return KINDS.index(stack.bases[0].kind)


def _choose_two(
    alone: Sequence[Array],
    places: Sequence[Places],
    stacks: Sequence[Stack],
    chosen: Sequence[NDArray[np.bool_]],
    own: Sequence[int],
    apart: int,
) -> None:
    """Mark the best minimum of some stacks, and the best that is apart from it."""
    rows = np.arange(len(alone[0]))
    first = _mark_best([alone[place] for place in own], [chosen[place] for place in own], rows)
    shifts = [stacks[place].first + places[place] for place in own]
    at = np.stack([values[spot] for values, spot in zip(shifts, first.spots, strict=True)])
    middle = at[first.which, rows]
    if max(values[-1] for values in shifts) - min(values[0] for values in shifts) < apart:
        return
    away = [
        np.where((abs(values - middle[:, None]) >= apart)[:, None, :], alone[place], np.inf)
        for place, values in zip(own, shifts, strict=True)
    ]
    _mark_best(away, [chosen[place] for place in own], rows)


@dataclass(frozen=True)
class _Best:
    which: Places
    spots: list[Places]


def _mark_best(curves: Sequence[Array], chosen: Sequence[NDArray[np.bool_]], rows: Places) -> _Best:
    flat = [curve.reshape(len(rows), -1) for curve in curves]
    spots = [values.argmin(axis=1) for values in flat]
    lowest = np.stack([values[rows, spot] for values, spot in zip(flat, spots, strict=True)])
    which = lowest.argmin(axis=0)
    for place, mask in enumerate(chosen):
        taken = (which == place) & np.isfinite(lowest[place])
        mask.reshape(len(rows), -1)[rows[taken], spots[place][taken]] = True
    return _Best(which, [spot % curve.shape[2] for spot, curve in zip(spots, curves, strict=True)])


def _lowest(
    curves: Array, places: Places, at: tuple[Places, Places, Places]
) -> tuple[Places, Array]:
    """The whole shift nearest to a minimum, and the score there."""
    row, basis, spot = at
    score = curves[at]
    if len(places) < 3 or places[1] - places[0] == 1:
        return places[spot], score
    inner = np.clip(spot, 1, len(places) - 2)
    before, after = curves[row, basis, inner - 1], curves[row, basis, inner + 1]
    curvature, slope = before + after - 2 * score, after - before
    safe = np.where(curvature > 0, curvature, 1.0)
    bent = (spot == inner) & (curvature > 0)
    offset = np.where(bent, -0.5 * slope / safe, 0.0) * (places[1] - places[0])
    lowered = score - np.where(bent, slope * slope / (8 * safe), 0.0)
    return places[spot] + np.rint(offset).astype(np.int64), lowered


def _joined(
    curves: Sequence[Array],
    places: Sequence[Places],
    stacks: Sequence[Stack],
    chosen: Sequence[NDArray[np.bool_]],
) -> Minima:
    parts = []
    for number, (stack, mask) in enumerate(zip(stacks, chosen, strict=True)):
        row, basis, spot = np.nonzero(mask)
        place, score = _lowest(curves[number], places[number], (row, basis, spot))
        parts.append(
            (
                row, np.full(len(row), number), basis, place, place + stack.first,
                np.full(len(row), _kind(stack)), score,
            )
        )  # fmt: skip
    return Minima(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def other_minima(kind: Places, shift: Places, best: tuple[int, int], apart: int) -> Places:
    """Which minima are another than the best: of another class, or far enough from it.

    Parameters
    ----------
    kind, shift : ndarray of int64
        Of minima of one row.
    best : tuple of int
        Kind and shift of the best.
    apart : int
        In pixels.

    Returns
    -------
    ndarray of int64
        Their places.
    """
    return np.flatnonzero((kind != best[0]) | (abs(shift - best[1]) >= apart))
