"""What a model shows of rows and of itself: values only, made by models, drawn by the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray


@dataclass(frozen=True)
class Role:
    """Why a row is worth a look, and how it is found among the predictions.

    Parameters
    ----------
    why : str
        ``the most certain GALAXY``.
    column : str
        Predicted column that rows are ranked by. A row without a number has no part.
    order : {"largest", "smallest", "median"}
    only : (str, str) or None
        A column of words, and the word that a row must have there.
    least : float or None
        Numbers below are left out.
    """

    why: str
    column: str
    order: Literal["largest", "smallest", "median"]
    only: tuple[str, str] | None = None
    least: float | None = None


@dataclass(frozen=True)
class SpectralColumns:
    """Names of the predicted columns that say what a spectrum is of.

    Parameters
    ----------
    kind : str
        Its class, as `classes` names them.
    z, error : str
        Redshift and its 1-sigma error.
    score, score_name : str
        The larger, the surer; what people call it.
    chi2 : str
        Reduced chi-square of the best fit.
    classes : tuple of str
    """

    kind: str
    z: str
    error: str
    score: str
    score_name: str
    chi2: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Showing:
    """What is looked at among a model's predictions.

    Parameters
    ----------
    roles : tuple of Role
        The first come first; each shows another row.
    counted : tuple of str
        Predicted columns of words or whole numbers whose values are counted.
    judged : SpectralColumns or None
        None for a model that finds neither class nor redshift.
    """

    roles: tuple[Role, ...]
    counted: tuple[str, ...] = ()
    judged: SpectralColumns | None = None


@dataclass(frozen=True, eq=False)
class SpectrumShown:
    """A spectrum and what a model makes of it.

    Parameters
    ----------
    wavelength : ndarray, shape (m,)
        In Angstrom.
    flux, model : ndarray, shape (m,)
        NaN where there are no data.
    error : ndarray, shape (m,), or None
        1 sigma of the flux: residuals are shown in units of it. None where it means nothing.
    unit : str
        Of flux and model; empty where they are relative.
    frame : {"observed", "rest"}
    """

    wavelength: NDArray[Any]
    flux: NDArray[Any]
    model: NDArray[Any]
    error: NDArray[Any] | None
    unit: str
    frame: Literal["observed", "rest"]


@dataclass(frozen=True, eq=False)
class Chi2Curve:
    """A curve of chi-square against redshift.

    Parameters
    ----------
    name : str
        The class whose templates it is of.
    z, chi2 : ndarray, shape (s,)
    """

    name: str
    z: NDArray[Any]
    chi2: NDArray[Any]


@dataclass(frozen=True)
class Minimum:
    """A minimum of chi-square.

    Parameters
    ----------
    name : str
        Its class.
    z, chi2 : float
    """

    name: str
    z: float
    chi2: float


@dataclass(frozen=True, eq=False)
class RowShown:
    """One row.

    Parameters
    ----------
    words : str
        What the model finds, in sentences.
    spectrum : SpectrumShown or None
        None without data.
    curves : tuple of Chi2Curve
        Of the class of the best minimum, and of the second's where that is another.
    minima : tuple of Minimum
        The best and the second one, where there are any.
    """

    words: str
    spectrum: SpectrumShown | None
    curves: tuple[Chi2Curve, ...] = ()
    minima: tuple[Minimum, ...] = ()


@dataclass(frozen=True)
class NumberShown:
    """A number that a model knows of itself.

    Parameters
    ----------
    label : str
    value : float
    note : str
        What to make of it.
    """

    label: str
    value: float
    note: str = ""


@dataclass(frozen=True)
class ClustersTried:
    """What speaks for a number of clusters.

    Parameters
    ----------
    k : int
    silhouette : float
    stability : float
    """

    k: int
    silhouette: float
    stability: float


@dataclass(frozen=True, eq=False)
class PropertyShown:
    """What the rows of cells and clusters are like in one property.

    Parameters
    ----------
    name : str
    cells : ndarray, shape (x, y)
        Its median; NaN where no row has it.
    clusters : tuple of (float or None, float or None)
        Median and spread in each.
    """

    name: str
    cells: NDArray[Any]
    clusters: tuple[tuple[float | None, float | None], ...]


@dataclass(frozen=True, eq=False)
class MapShown:
    """A self-organising map, and clusters.

    Parameters
    ----------
    hits : ndarray of int, shape (x, y)
        Rows that taught it, by cell.
    u_matrix : ndarray, shape (x, y)
        Mean distance of each cell to those that touch it.
    clusters : ndarray of int, shape (x, y)
        Cluster of each cell.
    quantisation, topographic : float
        Its errors on rows that did not teach it.
    k : int
        How many clusters there are.
    tried : tuple of ClustersTried
        Numbers of clusters.
    rows : tuple of int
        Of each cluster.
    properties : tuple of PropertyShown
    """

    hits: NDArray[Any]
    u_matrix: NDArray[Any]
    clusters: NDArray[Any]
    quantisation: float
    topographic: float
    k: int
    tried: tuple[ClustersTried, ...] = ()
    rows: tuple[int, ...] = ()
    properties: tuple[PropertyShown, ...] = ()


@dataclass(frozen=True)
class Portrait:
    """What a model shows of itself.

    Parameters
    ----------
    numbers : tuple of NumberShown
    map : MapShown or None
    """

    numbers: tuple[NumberShown, ...] = ()
    map: MapShown | None = None
