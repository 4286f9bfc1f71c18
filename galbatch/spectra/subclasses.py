"""SDSS's subclasses, as few as are told apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BROAD = "BROADLINE"


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
    """The letters of the spectral types of stars: `STAR F` of `F5 (3542)`; empty for others.

    Parameters
    ----------
    kind, subclass : ndarray of str, shape (n,)

    Returns
    -------
    ndarray of str, shape (n,)
    """
    letters = [
        f"STAR {''.join(letter for letter in text.split()[0] if letter.isalpha())}"
        if one == "STAR" and text.strip()
        else ""
        for one, text in zip(kind.tolist(), subclass.tolist(), strict=True)
    ]
    return np.array(letters, dtype=np.str_)
