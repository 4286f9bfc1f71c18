"""What stands in a catalogue that was made for a test, whatever galbatch reads of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Fate = Literal["stored", "quarantined", "either"]
"""What may become of a row; `either` is a row that is stored as it stands, or quarantined."""
Refusal = Literal["never", "may", "must"]
"""Whether a file as a whole may be refused."""

ANYTHING = object()
"""A value that is as good as any: half a letter, say."""
NULLS = ("", "null", "NULL", "None", "NA", "N/A", "n/a", "--", "\\N", "nan", "NaN", "NULL ")


@dataclass(frozen=True)
class Record:
    """A row as it stands in its file.

    Parameters
    ----------
    row : int
        Its number among the records of the file, from 1.
    id : int, float, str or None
        As the file has it: in a CSV a text. None where it is missing.
    ra, dec : float or None
        Degrees, RA in [0, 360), whatever the unit in the file. None where they are no position.
    values : mapping of str to value
        Every other column.
    fate : Fate
    damage : str
        What is wrong with the row; empty for a sound one.
    """

    row: int
    id: Any
    ra: float | None
    dec: float | None
    values: Mapping[str, Any]
    fate: Fate = "stored"
    damage: str = ""


@dataclass(frozen=True)
class SourceFile:
    """A file and the records that stand in it.

    Parameters
    ----------
    name : str
    content : bytes
    records : tuple of Record
    defect : str
    refusal : Refusal
    told : tuple of tuple of str
        What the message of a refusal must say, besides the name of the file: all words of one of
        these.
    tolerance : mapping of str to float
        Relative, of columns whose numbers are converted to another unit.
    readable : bool
        Whether pandas, astropy or h5py read the same records from it.
    """

    name: str
    content: bytes
    records: tuple[Record, ...]
    defect: str
    refusal: Refusal = "never"
    told: tuple[tuple[str, ...], ...] = ()
    tolerance: Mapping[str, float] | None = None
    readable: bool = True


@dataclass(frozen=True)
class Catalogue:
    """Files of one survey, with the words to read them by.

    Parameters
    ----------
    survey : mapping
        Words of the survey.
    source : mapping
        Words of the job's source, without the paths.
    files : tuple of SourceFile
    id_dtype : str
        What the survey says; empty where it says nothing.
    later : int
        So many of the files, the last ones, come when the others are in the store already.
    """

    survey: Mapping[str, Any]
    source: Mapping[str, Any]
    files: tuple[SourceFile, ...]
    id_dtype: str
    later: int = 0

    def __str__(self) -> str:
        words = [self.id_dtype or "no id dtype"]
        words += ["no sky"] * ("sky" not in self.survey)
        words += [f"{self.later} later"] * bool(self.later)
        return f"[{', '.join(words)}] " + " + ".join(
            f"{file.name}: {file.defect}" for file in self.files
        )
