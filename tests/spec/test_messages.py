"""What is said of a word that is wrong: what was expected, what arrived, in which line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from dask.utils import parse_bytes
from small import REPOSITORY, job_words

from galbatch.errors import SpecError
from galbatch.spec import load_job, load_survey
from galbatch.spec.model_settings import ModelSettings
from galbatch.spec.sizes import in_bytes

MAGNITUDES = "a number from 0 to 50"


def said_of(folder: Path, words: dict[str, Any], load: Any = load_job) -> str:
    file = folder / "file.yaml"
    file.write_text(yaml.safe_dump(words, sort_keys=False), encoding="utf-8")
    with pytest.raises(SpecError) as error:
        load(str(file))
    said = str(error.value)
    assert said.startswith(str(file)) and "\n" not in said
    return said.removeprefix(str(file))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "2nd try"}, "'name': expected a letter, then at most 47 letters, digits or _, "
                              "e.g. my_survey, got '2nd try'"),
        ({"name": 12}, "got 12 (in quotes, if it is text)"),
        ({"name": None}, "got nothing"),
        ({"store": ""}, "'store': expected a path, got ''"),
        ({"store": "a\nb"}, "'store': expected a path, got 'a\\nb'"),
        ({"store": ["a"]}, "'store': expected a path, got a list"),
        ({"store": {"a": 1}}, "'store': expected a path, got 'key: value' lines"),
        ({"source": "a.csv"}, "'source': expected 'key: value' lines, got 'a.csv'"),
        ({"source": {"kind": "mock", "rows": 1.5}},
         "'source.rows': expected a whole number from 1 to 10000000000, got 1.5"),
        ({"source": {"kind": "mock"}}, "'source.rows' is missing"),
        ({"source": {"kind": "files", "paths": "a.csv"}},
         "'source.paths': expected a list, got 'a.csv'"),
        ({"source": {"kind": "files", "paths": []}},
         "'source.paths' is empty (it needs at least one entry)"),
        ({"source": {"kind": "files", "paths": ["a", 3]}},
         "'source.paths.1': expected a path, got 3"),
        ({"source": {"kind": "files", "paths": ["a"],
                     "format": {"kind": "csv", "delimiter": ",,"}}},
         "'source.format.delimiter': expected one punctuation mark, a space or a tab (\"\\t\"), "
         "got ',,'"),
        ({"source": {"kind": "files", "paths": ["a"], "format": {"kind": "fits", "hdu": -1}}},
         "'source.format.hdu': expected a whole number from 0 to 9999 or one line of text, got -1"),
        ({"source": {"kind": ["mock"]}}, "'source.kind' cannot be a list (one of: files, mock)"),
        ({"models": []}, "'models' is empty (it needs at least one entry)"),
        ({"models": [{"kind": "photometric", "seed": -1}]},
         "'models.photometric.seed': expected a whole number from 0 to 4294967295, got -1"),
        ({"models": [{"kind": "photometric"}, {"kind": "thesis", "name": "old", "sample": 0}]},
         "'models.old.sample': expected a number, above 0 and at most 1, got 0"),
        ({"models": [{"kind": "thesis"}, {"kind": "thesis", "sample": 2}]},
         "'models.1.sample': expected a number, above 0 and at most 1, got 2"),
        ({"models": [{"kind": "photometric", "clean": {"error_floor": 1}}]},
         "'models.photometric.clean.error_floor': expected a number, at least 0 and "
         "below 1, got 1"),
        ({"models": [{"kind": "thesis", "clean": {"low": 30}}]},
         "'models.thesis.clean': low (30) must be below high (27)"),
        ({"models": [{"kind": "photometric", "monte_carlo": 1}]}, "one draw has no scatter"),
        ({"report": {"magnitude_bins": []}},
         "'report.magnitude_bins': expected a list of at least 2 entries, got 0"),
        ({"report": {"magnitude_bins": [20]}}, "expected a list of at least 2 entries, got 1"),
        ({"report": {"magnitude_bins": [20, float("inf")]}},
         f"'report.magnitude_bins.1': expected {MAGNITUDES}, got inf"),
        ({"report": {"magnitude_bins": [20, 22, 22]}},
         "'report': magnitude_bins: each edge must be above the one before it"),
        ({"report": {"where": [{"column": "a"}]}},
         "'report.where.0': the condition on 'a' needs 'low', 'high' or 'values'"),
        ({"report": {"where": [{"column": "a", "low": 2, "high": 1}]}},
         "'report.where.0': low (2) must not be above high (1)"),
        ({"models": [{"kind": "photometric", "redshift_grid": {"low": 2, "high": 1}}]},
         "'models.photometric.redshift_grid': low (2) must be below high (1)"),
        ({"models": [{"kind": "photometric",
                      "redshift_grid": {"low": 2, "high": 2.001, "points": 9999}}]},
         "points are closer than 1e-06"),
        ({"models": [{"kind": "photometric", "targets": ["star"], "redshift_grid": {}}]},
         "redshift_grid: 'redshift' is not among the targets"),
        ({"redshift_grid": {"low": 0, "high": 2}},
         "'redshift_grid' is a setting of a photometric model: write it in 'models', beside that "
         "model's 'kind'"),
        ({"cluster": {"kind": "local", "memory": "3"}},
         "'cluster.memory': expected a size with its unit, e.g. 3 GiB, got '3'"),
        ({"cluster": {"kind": "local", "memory": "1 MiB"}},
         "'cluster.memory': a worker needs at least 550 MiB before it has read any rows, "
         "not 1 MiB"),
        ({"cluster": {"kind": "local", "memory": "999999999 TiB"}},
         "no worker has more than 100 TiB"),
        ({"cluster": {"kind": "slurm", "workers": 2, "cores": 16}},
         "'cluster.memory': 4 GiB for 16 workers in a job are 256 MiB for each; a worker needs at "
         "least 550 MiB"),
        *(
            ({"cluster": {"kind": "slurm", "groups": {"gpu": {"workers": 2, **words}}}},
             f"'cluster.groups.gpu.{said}")
            for words, said in (
                ({"walltime": "x"}, "walltime': expected hours:minutes:seconds"),
                ({"stages": ["trian"]}, "stages.0' cannot be 'trian' (did you mean 'train'?)"),
                ({"prologue": ["a", ""]}, "prologue.1': expected one line of text, got ''"),
                ({"workers": "x"}, "workers': expected a whole number from 1 to 10000 or a list of "
                                   "2 of them, got 'x'"),
                ({"workers": [0, 2]}, "workers.0': expected a whole number from 1 to 10000, got 0"),
                ({"workers": None}, "workers': expected a number of worker processes, e.g. 4, or "
                                    "[2, 40], got nothing"),
                ({"cores": 32}, "memory': 4 GiB for 32 workers"),
                ({"gpus": 2, "processes": 1}, "processes': 1 for 2 GPUs"),
                ({"workers": [4, 2]}, "workers': 4 is more than 2"),
            )
        ),
        ({"cluster": {"kind": "slurm", "groups": {"gpu": {"wokers": 2}}}},
         "unknown setting 'cluster.groups.gpu.wokers' (did you mean 'workers'?)"),
        ({"cluster": {"kind": "slurm", "groups": {"2gpu": {"workers": 2}}}},
         "'cluster.groups.2gpu': expected a letter, then at most 47 letters, digits or _, "),
        ({"cluster": {"kind": "slurm", "groups": {"gpu": 7}}},
         "'cluster.groups.gpu': expected 'key: value' lines, got 7"),
        ({"cluster": {"kind": "slurm", "workers": 1, "options": {"a-b": 7}}},
         "'cluster.options.a-b': expected a letter, then"),
        *(
            ({"cluster": {"kind": "slurm", "workers": workers}},
             "'cluster.workers': expected a whole number from 1 to 10000 or a list of 2 of them, "
             f"got {got}")
            for workers, got in (
                ([1, 2, 3], "a list of 3"), ([1], "a list of 1"), (0, "0"), (True, "true"),
            )
        ),
        *(
            ({"cluster": {"kind": "scheduler", "address": "tls://node7:8786", "tls": tls}}, said)
            for tls, said in (
                ({"ca": "x"}, "'cluster.tls.certificate' is missing"),
                ({"cert": "x"}, "unknown setting 'cluster.tls.cert' (expected one of: ca, "),
                ({"ca": "a", "certificate": "b", "key": 7}, "'cluster.tls.key': expected a path"),
                (True, "'cluster.tls': expected 'key: value' lines (ca, certificate, key) or "
                       "false, got true"),
                ("no", "(ca, certificate, key) or false, got 'no'"),
                (False, "'cluster.tls': tls://node7:8786 needs certificates"),
            )
        ),
        ({"cluster": [1]}, "'cluster': expected 'key: value' lines, got a list"),
        ({"cluster": {"kind": "slurm", "workers": 2, "walltime": "1:75:00"}},
         "'cluster.walltime': expected hours:minutes:seconds, e.g. 01:30:00, got '1:75:00'"),
        *(
            ({"cluster": {"kind": "pbs", "workers": 2, "walltime": walltime}},
             "'cluster.walltime': queues count minutes, and a worker takes a while to start: at "
             f"least 00:01:00, not {walltime}")
            for walltime in ("00:00:00", "00:00:01", "0:00:59")
        ),
        ({"cluster": {"kind": "sge", "workers": 2, "directives": ["-a", ""]}},
         "'cluster.directives.1': expected one line of text, got ''"),
        ({"a\nb": 1}, "unknown setting 'a\\nb'"),
        ({"a" * 500: 1}, "a..."),
        ({"sinks": [{"kind": "duckdb"}]}, "'sinks.duckdb.path' is missing"),
        ({"split": {"kind": "sky", "order": 10**30}}, "got a number of 31 digits"),
    ],
)  # fmt: skip
def test_a_job_s_word_is_explained(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    assert said in said_of(tmp_path, job_words(**changes))


def survey_words(**changes: Any) -> dict[str, Any]:
    words: dict[str, Any] = {
        "name": "own",
        "title": "Own",
        "id": {"column": "id"},
        "bands": [{"name": "r", "wavelength": 6000, "width": 900, "value": "r", "error": "e"}],
        "reference_band": "r",
        "labels": {"redshift": {"column": "z", "low": 0, "high": 6}},
        "columns": [{"name": name} for name in ("id", "r", "e", "z", "t")],
    }
    return words | changes


def mock(**words: Any) -> dict[str, Any]:
    return {"mock": {"magnitudes": [18, 24], "star_fraction": 0.1} | words}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"title": ""}, ": line 2: 'title': expected one line of text, got ''"),
        ({"bands": [{"name": "r", "wavelength": 600, "width": 900, "value": "r", "error": "e"}]},
         "'bands.r': band r: width (900) must be below wavelength (600)"),
        ({"bands": [{"name": "r", "wavelength": 0, "width": 900}]},
         "'bands.r.wavelength': expected a number from 100 to 100000000, got 0"),
        ({"labels": {"redshift": {"column": "z", "low": 6, "high": 6}}},
         "'labels.redshift': low (6) must be below high (6)"),
        ({"labels": {"star": {"column": "z", "star": [1], "galaxy_range": [3, 1]}}},
         "'labels.star': galaxy_range: the first number must be smaller than the second"),
        ({"labels": {"star": {"column": "z", "star": [1], "galaxy_range": [3]}}},
         "'labels.star.galaxy_range': expected a list of 2 entries, got 1"),
        ({"labels": {"star": {"column": "z", "star": [1], "galaxy_range": [3, 4, 5]}}},
         "'labels.star.galaxy_range': expected a list of 2 entries, got 3"),
        ({"labels": {"star": {"column": "z", "star": [float("nan")], "galaxy": [1]}}},
         "'labels.star.star.0': expected a number (finite), got nan"),
        ({"columns": [{"name": "id", "dtype": "int65"}]},
         "'columns.id.dtype' cannot be 'int65' (did you mean 'int6"),
        *(
            ({"columns": [*survey_words()["columns"], {"name": name, "shape": [300]}]},
             f"'{name}' cannot be the name of an array or a dimension")
            for name in ("inv var", "a/b", "row", "zarr.json", "_ivar")
        ),
        ({"columns": [*survey_words()["columns"],
                      {"name": "s", "shape": [300], "dimensions": ["row"]}]},
         "'row' cannot be the name of an array or a dimension"),
        ({"columns": [*survey_words()["columns"], {"name": "s", "length": 3}]},
         "'length' is called 'shape' now: write shape: [3]"),
        (mock(ra=[0, 400]), "'mock': ra: the range is more than a full circle"),
        (mock(dec=[-91, 0]), "'mock.dec.0': expected a number from -90 to 90, got -91"),
        (mock(unobserved_bands={"r": 1}),
         "'mock.unobserved_bands.r': expected a number, at least 0 and below 1, got 1"),
        (mock(columns={"z": "redshift"}), "'mock.columns.z' cannot be 'redshift'"),
        ({**mock(constants={"t": 40_000}),
          "columns": [*survey_words()["columns"][:4], {"name": "t", "dtype": "int16"}]},
         "mock.constants: 40000 is no int16 (column 't')"),
        ({**mock(constants={"t": 1}),
          "columns": [*survey_words()["columns"][:4], {"name": "t", "dtype": "string"}]},
         "mock: column 't' is text; it can hold numbers alone"),
    ],
)  # fmt: skip
def test_a_survey_s_word_is_explained(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    assert said in said_of(tmp_path, survey_words(**changes), load_survey)


@pytest.mark.parametrize("kind", ModelSettings.of_kind)
def test_a_misspelt_setting_is_named_of_every_kind_of_model(tmp_path: Path, kind: str) -> None:
    expected = f"unknown setting 'models.{kind}.epoch' (did you mean 'epochs'?)"
    words = job_words(models=[{"kind": kind, "epoch": 2}])
    assert said_of(tmp_path, words).endswith(expected)
    (tmp_path / "file.yaml").write_text(yaml.safe_dump(job_words(models=[{"kind": kind}])))
    with pytest.raises(SpecError) as error:
        load_job(str(tmp_path / "file.yaml"), [f"models.{kind}.epoch=2"])
    assert str(error.value).endswith(expected)


def test_the_line_of_a_wrong_word_is_said(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    text = (REPOSITORY / "jobs" / "quickstart.yaml").read_text()
    lines = text.splitlines()
    number = next(n for n, line in enumerate(lines, 1) if "epochs: 30" in line)
    file.write_text(text.replace("epochs: 30", "epochs: 0"))
    wrong = "'models.photometric.epochs': expected a whole number from 1 to 10000, got"
    with pytest.raises(SpecError) as error:
        load_job(str(file))
    assert str(error.value) == f"{file}: line {number}: {wrong} 0"
    # What --set says is in no line of the file.
    with pytest.raises(SpecError) as error:
        load_job(str(file), ["models.photometric.epochs=-1"])
    assert str(error.value) == f"{file}: {wrong} -1"


def test_the_line_of_what_settings_say_together_is_that_of_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    words = job_words()
    del words["cluster"]
    head = yaml.safe_dump(words)
    last = len(head.splitlines())
    groups = "cluster:\n  kind: slurm\n  groups:\n    cpu: {workers: 2}\n    gpu:\n"
    for text, line, said in (
        ("      gpus: 2\n      workers: 3\n", 7, "workers': 3 cannot be had with 2 in each job"),
        ("      cores: 64\n      workers: 64\n", 5, "memory': 4 GiB for 64 workers"),
    ):
        file.write_text(head + groups + text)
        with pytest.raises(SpecError) as error:
            load_job(str(file))
        expected = f"{file}: line {last + line}: 'cluster.groups.gpu.{said}"
        assert str(error.value).startswith(expected)


def test_the_line_of_what_an_alias_or_a_merge_brings_is_where_it_is_written(tmp_path: Path) -> None:
    words = survey_words()
    del words["labels"]
    head = yaml.safe_dump(words, sort_keys=False)
    text = head + "labels:\n  redshift: &z\n    column: z\n    low: bad\n    high: 6\n"
    text += "  log_mass: {<<: *z, low: 5}\n"
    file = tmp_path / "own.yaml"
    file.write_text(text.replace("low: bad", "low: 0").replace("low: 5", "high: bad"))
    last = len(text.splitlines())
    with pytest.raises(SpecError, match=rf"line {last}: 'labels.log_mass.high': expected"):
        load_survey(str(file))
    file = tmp_path / "other.yaml"
    file.write_text(text.replace("redshift: &z", "abs_mag_b: &z").replace("low: 5", "high: 7"))
    with pytest.raises(SpecError, match=rf"line {last - 2}: 'labels.(log_mass|abs_mag_b).low'"):
        load_survey(str(file))


@pytest.mark.parametrize("size", ["3 GiB", "4GB", "0.75 TiB", "600 MiB", "700.5MB", "600000 KiB"])
def test_sizes_are_what_dask_takes_them_for(size: str) -> None:
    assert in_bytes(size) == parse_bytes(size)
