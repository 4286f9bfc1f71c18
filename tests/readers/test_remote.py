"""Files in object storage: what comes is what is there, and what is wrong is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from galbatch.errors import SpecError, TransientError
from galbatch.readers import expand
from galbatch.readers.remote import at_hand, expand_url, stamp_url

URL = "memory://galbatch-tests/a.csv"


@pytest.fixture(autouse=True)
def _a_file() -> None:
    with fsspec.open(URL, "wb") as file:
        file.write(b"id,x\n1,2\n")


def test_a_copy_for_a_while() -> None:
    with at_hand(URL) as copy:
        assert Path(copy).read_bytes() == b"id,x\n1,2\n"
        with (
            pytest.raises(SpecError, match=r"^memory://galbatch-tests/a.csv: is odd"),
            at_hand(URL),
        ):
            raise SpecError(URL, "is odd")
    assert not Path(copy).exists()
    assert stamp_url(URL)[0] == 9


def test_what_is_not_there() -> None:
    gone = "memory://galbatch-tests/b.csv"
    with pytest.raises(SpecError, match="there is no such file"), at_hand(gone):
        pass
    with pytest.raises(SpecError, match="there is no such file"):
        stamp_url(gone)
    with pytest.raises(SpecError, match="there is no such file"):
        expand_url(gone)
    with pytest.raises(SpecError, match=r"is a folder, not a file \(.*galbatch-tests/\* takes"):
        expand_url("memory://galbatch-tests")
    assert [name.split("/")[-1] for name in expand_url("memory://galbatch-tests/*")] == ["a.csv"]


@pytest.mark.parametrize("fails", [True, False])
def test_a_copy_that_is_not_whole(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def get_file(_: MemoryFileSystem, name: str, copy: str, **__: Any) -> None:
        Path(copy).write_bytes(b"id,")
        if fails:
            raise ConnectionError("the line broke\nand more")

    monkeypatch.setattr(MemoryFileSystem, "get_file", get_file)
    message = "could not be fetched: the line broke$" if fails else "3 of its 9 bytes came"
    with pytest.raises(TransientError, match=message), at_hand(URL):
        pass


def test_a_folder_that_is_a_file() -> None:
    url = "memory://galbatch-tests/deep/A.zarr"
    for name, content in (("zarr.json", b"{}"), ("flux/zarr.json", b"{}"), ("flux/c/0", b"123")):
        with fsspec.open(f"{url}/{name}", "wb") as file:
            file.write(content)
    with fsspec.open("memory://galbatch-tests/deep/a.csv", "wb") as file:
        file.write(b"id\n1\n")
    names = [name.split("/")[-1] for name in expand_url(f"{url[:-6]}*", (".zarr",))]
    assert names == ["A.zarr", "a.csv"]
    assert [name.split("/")[-1] for name in expand([url])] == ["A.zarr"]
    with at_hand(url) as copy:
        files = [file for file in Path(copy).rglob("*") if file.is_file()]
        found = {file.relative_to(copy).as_posix(): file.read_bytes() for file in files}
        assert Path(copy).name == "A.zarr"
    assert found == {"zarr.json": b"{}", "flux/zarr.json": b"{}", "flux/c/0": b"123"}
    size, change = stamp_url(url)
    assert size == 7
    with fsspec.open(f"{url}/flux/c/0", "wb") as file:
        file.write(b"124")
    assert stamp_url(url) != (7, change)
    assert stamp_url(url)[0] == 7
