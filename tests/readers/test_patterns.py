"""A pattern takes a file before it is there exactly if it is found once it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from galbatch.errors import SpecError
from galbatch.readers import expand
from galbatch.readers.patterns import takes

FILES = ("a.parquet", "s/a.parquet", "s/b/a.csv", "s/b/c/a.parquet", "s/.b/a.csv", "s/b/.a.csv")
PATTERNS = (
    "*.parquet", "**/*.parquet", "*/*.parquet", "**/a.*", "s/**", "**", "*/b/*", "s/**/c/*.parquet",
    "s/[ab]/*.csv", "*/?.parquet", "s/.b/*", "s/.*/*", "**/b/**/*.parquet", "./s/../s/*.parquet",
    "s/b/c/a.parquet", "link/*.parquet", "link/**/a.csv", "*/b/*.csv", "x/*.parquet",
)  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_as_it_will_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s").mkdir()
    (tmp_path / "link").symlink_to("s")
    told = {file: takes(pattern, str(tmp_path / file)) for file in FILES}
    for file in FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    try:
        found = {Path(one).resolve() for one in expand([pattern])}
    except SpecError:
        found = set()
    assert told == {file: (tmp_path / file) in found for file in FILES}


def test_links_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "src" / "one").mkdir(parents=True)
    (tmp_path / "src" / "one" / "far").symlink_to(tmp_path / "real")
    (tmp_path / "src" / "one" / "round").symlink_to(tmp_path / "src")
    store = str(tmp_path / "real" / "deep" / "store" / "x.parquet")
    assert takes(f"{tmp_path}/src/**/*.parquet", store)
    assert takes(f"{tmp_path}/src/*/far/*/store/*.parquet", store)
    assert not takes(f"{tmp_path}/src/*/*.parquet", store)


def test_objects_and_homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert takes("s3://bucket/**/*.parquet", "s3://bucket/store/a.parquet")
    assert not takes("s3://bucket/data/*.parquet", "s3://bucket/store/a.parquet")
    assert not takes("/bucket/**", "s3://bucket/store/a.parquet")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert takes("~/d*/*.csv", str(tmp_path / "data" / "a.csv"))
