"""What the motion of stars does to spectra on a grid that is even in the logarithm."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

_BRIDGE = 64
"""Pixels from the level of one end to that of the other."""
_REACH = 6.0
"""Widths on each side that a spectrum is folded over."""


def broadened(
    spectra: NDArray[np.floating],
    widths: NDArray[np.floating],
    shifts: NDArray[np.floating] | None = None,
) -> NDArray[np.floating]:
    """Spectra folded with Gaussians and moved, each by its own; the ends stay level.

    Parameters
    ----------
    spectra : ndarray, shape (n, m)
    widths : ndarray, shape (n,)
        Standard deviations of the Gaussians in pixels.
    shifts : ndarray, shape (n,), optional
        Pixels, of any share, to the red.

    Returns
    -------
    ndarray, shape (n, m)
        In the precision of the spectra.
    """
    furthest = 0.0 if shifts is None else float(np.abs(shifts).max(initial=0.0))
    ends = int(np.ceil(_REACH * widths.max() + furthest))
    points = spectra.shape[1]
    length = scipy.fft.next_fast_len(points + 2 * ends + _BRIDGE, real=True)
    longer = np.pad(spectra, ((0, 0), (ends, length - points - ends)), mode="edge")
    # The end meets the beginning: a step there would ring through all of a spectrum that is moved.
    bridge = slice(points + 2 * ends, length)
    share = (np.arange(1, length - bridge.start + 1) / (length - bridge.start + 1)).astype(
        spectra.dtype
    )
    longer[:, bridge] += share * (spectra[:, :1] - spectra[:, -1:])
    cycles = scipy.fft.rfftfreq(length).astype(spectra.dtype)
    folded = scipy.fft.rfft(longer)
    folded *= np.exp(-2.0 * (np.pi * cycles * widths.astype(spectra.dtype)[:, None]) ** 2)
    if shifts is not None:
        folded *= np.exp(-2j * np.pi * cycles * shifts.astype(spectra.dtype)[:, None])
    return np.asarray(scipy.fft.irfft(folded, length)[:, ends : ends + points])
