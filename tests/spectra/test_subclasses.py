"""Subclasses as few as are told apart."""

from __future__ import annotations

import numpy as np

from galbatch.spectra.subclasses import stellar_letters


def test_the_letters_of_spectral_types_without_their_luminosity() -> None:
    named = {
        "F5 (40964)": "F", "A0p": "A", "B6 (30614)": "B", "K3V (32147)": "K", "F9IV": "F",
        "A4V": "A", "G0Va (143761)": "G", "M6": "M", "sdM1": "sdM", "L1": "L", "L5.5": "L",
        "T2": "T", "OB": "OB", "WD (1658)": "WD", "CV": "CV", "Carbon": "Carbon",
        "Carbon_lines": "Carbon", "": "", "  ": "", "(3)": "",
    }  # fmt: skip
    names = np.array([*named])
    expected = [f"STAR {letters}" if letters else "" for letters in named.values()]
    assert stellar_letters(np.full(len(names), "STAR"), names).tolist() == expected
    assert set(stellar_letters(np.full(len(names), "GALAXY"), names)) == {""}
    assert stellar_letters(names[:0], names[:0]).tolist() == []
