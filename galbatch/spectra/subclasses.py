"""SDSS's subclasses, as few as are told apart."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

_BROAD = "BROADLINE"
_LETTERS = re.compile(r"\s*([^\W\d_]+)")


def folded(kind: NDArray[np.str_], subclass: NDArray[np.str_]) -> NDArray[np.str_]:
    """Class and subclass in one, as GaSNet-II has them: `GALAXY AGN`, `QSO BROADLINE`, `STAR F5`.

    Lines are broad or what they are, not both: of a quasar that they are broad, of a galaxy what
    they are.

    Parameters
    ----------
    kind, subclass : ndarray of str, shape (n,)

    Returns
    -------
    ndarray of str, shape (n,)
    """
    broad = np.char.endswith(subclass, _BROAD)
    narrow = np.char.strip(np.char.replace(subclass, _BROAD, ""))
    own = np.where(kind == "QSO", np.where(broad, _BROAD, ""), subclass)
    own = np.where(kind == "GALAXY", narrow, own)
    return np.char.strip(np.char.add(np.char.add(kind, " "), own))


def stellar_letters(kind: NDArray[np.str_], subclass: NDArray[np.str_]) -> NDArray[np.str_]:
    """The letters that spectral types of stars begin with; empty for others.

    `STAR F` of `F5 (40964)`, `STAR K` of `K3V (32147)` (the V is a luminosity, no type),
    `STAR Carbon` of `Carbon_lines`.

    Parameters
    ----------
    kind, subclass : ndarray of str, shape (n,)

    Returns
    -------
    ndarray of str, shape (n,)
    """
    names, place = np.unique(subclass, return_inverse=True)
    found = [_LETTERS.match(name) for name in names.tolist()]
    letters = np.array([f"STAR {one[1]}" if one else "" for one in found], dtype=np.str_)
    return np.where(kind == "STAR", letters[place], "")
