"""How catalogue files are to be read: the settings of each format."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from galbatch.spec.base import Line, Settings, say

Table = Annotated[int, Field(ge=0, le=9999)] | Line
"""A number or a name."""


class CsvFormat(Settings):
    """Comma-separated values, plain or packed (gzip, bzip2, xz, Zstandard, zip)."""

    kind: Literal["csv"] = "csv"
    delimiter: str = Field(
        default=",",
        pattern=r"^[\t !#-/:-@\[-`{-~]$",
        json_schema_extra=say('one punctuation mark, a space or a tab ("\\t")'),
    )


class ParquetFormat(Settings):
    """Apache Parquet."""

    kind: Literal["parquet"] = "parquet"


class FitsFormat(Settings):
    """FITS binary tables, plain or packed (gzip, bzip2, xz, Zstandard, zip). Images with as many
    rows as the table are columns that a survey can name."""

    kind: Literal["fits"] = "fits"
    hdu: Table | None = None
    """Number or EXTNAME of the table, or `all` for all of them one after the other (they must have
    the same columns). By default the only one that has rows; where there are several, the file is
    refused."""


class Hdf5Format(Settings):
    """HDF5: one dataset per column in a group, or one compound dataset."""

    kind: Literal["hdf5"] = "hdf5"
    group: Line | None = None
    """The group of columns or the compound dataset, or `all` for all of them one after the other
    (they must have the same columns). By default the only one that has rows; where there are
    several, the file is refused."""


class ZarrFormat(Settings):
    """Zarr, versions 2 and 3: a folder with one array per column in a group."""

    kind: Literal["zarr"] = "zarr"
    group: Line | None = None
    """The group of columns, or `all` for all of them one after the other (they must have the same
    columns). By default the only one that has rows; where there are several, the file is
    refused."""


class NumpyFormat(Settings):
    """NumPy: a structured array (`.npy`), or an archive of one array per column (`.npz`)."""

    kind: Literal["numpy"] = "numpy"


class VotableFormat(Settings):
    """A VOTable, plain or packed (gzip, bzip2, xz, Zstandard, zip)."""

    kind: Literal["votable"] = "votable"
    table: Table | None = None
    """Number (from 0), name or ID of the table, or `all` for all of them one after the other (they
    must have the same columns). By default the only one that has rows, resources of type `meta`
    aside; where there are several, the file is refused."""
    overflow: Literal["refuse", "accept"] = "refuse"
    """What to do with an answer that the service cut at its limit of rows
    (QUERY_STATUS = OVERFLOW)."""


class SdssSpecFormat(Settings):
    """An object of SDSS in a file of its own (`spec-PLATE-MJD-FIBER.fits`): the row of `SPECOBJ`,
    and the columns of `COADD` as arrays."""

    kind: Literal["sdss_spec"] = "sdss_spec"


class SdssPlateFormat(Settings):
    """A plate of SDSS (`spPlate-PLATE-MJD.fits`): the rows of `PLUGMAP`, and the images as the
    arrays `flux`, `ivar`, `and_mask`, `or_mask`, `wdisp` and `sky`."""

    kind: Literal["sdss_plate"] = "sdss_plate"


class DesiCoaddFormat(Settings):
    """Coadded spectra of DESI (`coadd-*.fits`): the rows of `FIBERMAP`, and the arms put together
    as the arrays `flux`, `ivar` and `mask`."""

    kind: Literal["desi_coadd"] = "desi_coadd"


Format = Annotated[
    CsvFormat
    | ParquetFormat
    | FitsFormat
    | Hdf5Format
    | ZarrFormat
    | NumpyFormat
    | VotableFormat
    | SdssSpecFormat
    | SdssPlateFormat
    | DesiCoaddFormat,
    Field(discriminator="kind"),
]
