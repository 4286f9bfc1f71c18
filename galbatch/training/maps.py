"""What the fits of all models with a map put on their cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.maps.clusters import cluster_centres, diagnose
from galbatch.maps.properties import properties_of
from galbatch.maps.som import Som, SomErrors
from galbatch.models.maps import LearnedMap

DIAGNOSED = 3000
"""Rows that numbers of clusters are tried with, at most: distances of all pairs are looked at."""
_NUMBERS = range(2, 11)


def map_record(som: Som, taught: SomErrors, watched: SomErrors) -> dict[str, Any]:
    """How good a map is.

    Parameters
    ----------
    som : Som
    taught : SomErrors
        Of the rows that taught it: its hits.
    watched : SomErrors
        Of others: its errors.

    Returns
    -------
    dict
        JSON values.
    """
    return {
        "quantisation_error": watched.quantisation,
        "topographic_error": watched.topographic,
        "hits": taught.hits.tolist(),
        "u_matrix": som.u_matrix().tolist(),
    }


def clustered(
    rows: NDArray[np.floating], k: int, seed: int, weights: NDArray[np.floating] | None = None
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Clusters of rows, and what speaks for which number of them.

    Parameters
    ----------
    rows : ndarray, shape (n, d)
    k, seed : int
    weights : ndarray, shape (n,), optional

    Returns
    -------
    centres : ndarray, shape (k, d)
    record : dict
        JSON values.
    """
    drawn = np.random.default_rng(seed).permutation(len(rows))[:DIAGNOSED]
    numbers = range(_NUMBERS.start, min(_NUMBERS.stop, len(drawn) - 1))
    centres = cluster_centres(rows, k, seed, weights)
    tried = diagnose(rows[drawn], numbers, seed)
    return centres, {"tried": [asdict(one) for one in tried]}


def property_record(
    learned: LearnedMap,
    cells: NDArray[np.integer],
    clusters: NDArray[np.integer],
    values: Mapping[str, NDArray[np.floating]],
) -> dict[str, Any]:
    """What the rows of each cell and of each cluster are like.

    Parameters
    ----------
    learned : LearnedMap
    cells, clusters : ndarray, shape (n,)
        Of each row.
    values : mapping of str to ndarray, shape (n,)
        Their properties.

    Returns
    -------
    dict
        ``cells`` and ``clusters``, each as `galbatch.maps.properties.Properties.to_json`.
    """
    return {
        "cells": properties_of(cells, len(learned.som.cells), values).to_json(),
        "clusters": properties_of(clusters, len(learned.centres), values).to_json(),
    }
