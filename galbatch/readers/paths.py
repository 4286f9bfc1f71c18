"""The files that a job names."""

from __future__ import annotations

from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path

from galbatch.errors import NoFileError, SpecError, counted, did_you_mean
from galbatch.readers.formats import FORMATS
from galbatch.readers.hats import check_rows, pixel_files
from galbatch.readers.opening import no_file
from galbatch.readers.remote import expand_url, is_url


def expand(paths: Sequence[str]) -> tuple[str, ...]:
    """The files behind paths, globs and folders of HATS catalogues.

    A folder of a format whose files are folders (Zarr) is a file.

    Parameters
    ----------
    paths : sequence of str
        ``data/part-*.csv.gz``, ``data/**/*.fits`` (any depth), ``~/alhambra.csv``,
        ``s3://bucket/tiles/*.fits``; and ``data/gaia``, where that is a HATS catalogue or a HATS
        collection (its primary catalogue).

    Returns
    -------
    tuple of str
        Each file once: in the order of `paths`, those of one glob by name, those of a catalogue
        by their place on the sky.

    Raises
    ------
    NoFileError
        If a path does not exist or a glob matches no file.
    SpecError
        If a link leads nowhere or a folder is no HATS catalogue.
    """
    found: dict[str, None] = {}
    matches: Sequence[str]
    for pattern in paths:
        if is_url(pattern):
            found.update(dict.fromkeys(expand_url(pattern, _folder_endings())))
            continue
        path = Path(pattern).expanduser()
        if has_magic(pattern) and not path.exists():
            # Unlike Path.glob, glob leaves out hidden files (half-written copies, say).
            names = glob(str(path), recursive=True)  # noqa: PTH207
            lost = next((name for name in names if not Path(name).exists()), None)
            if lost is not None:
                raise SpecError(
                    lost, "is a link to a file that is not there", "repair or remove it"
                )
            matches = sorted(name for name in names if _is_file(Path(name)))
            if not matches:
                raise NoFileError(pattern, "no file matches", _nearby(path))
        else:
            if not path.exists():
                raise NoFileError(pattern, "there is no such file", _nearby(path))
            matches = [str(path)] if _is_file(path) else _inside(path)
        found.update(dict.fromkeys(matches))
    return tuple(found)


def check_catalogues(paths: Sequence[str]) -> None:
    """See that the HATS catalogues among the paths of a job have the rows that they say.

    Parameters
    ----------
    paths : sequence of str
        As for `expand`.

    Raises
    ------
    SpecError
        If one has not.
    """
    for pattern in paths:
        folder = Path(pattern).expanduser()
        if not is_url(pattern) and folder.is_dir():
            check_rows(folder)


def _is_file(path: Path) -> bool:
    """Whether a path is one file, or a folder of a format whose files are folders."""
    if not path.is_dir():
        return path.is_file()
    return path.name.lower().endswith(_folder_endings())


def _folder_endings() -> tuple[str, ...]:
    return tuple(ending for format in FORMATS if format.folder for ending in format.endings)


def _inside(folder: Path) -> Sequence[str]:
    files = pixel_files(folder)
    if files is None:
        raise no_file(str(folder))
    return files


def _nearby(path: Path) -> str:
    """What may have been meant, for a file that is not there."""
    folder = path.parent
    if has_magic(str(folder)):
        return ""
    if not folder.is_dir():
        return f"there is no folder '{folder}' either; the working directory is {Path.cwd()}"
    names = [entry.name for entry in folder.iterdir() if entry.is_file()]
    hint = did_you_mean(path.name, names)
    if hint:
        return hint
    return f"'{folder}' holds {counted(len(names), 'file')}"
