from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from galbatch.errors import SpecError
from galbatch.mock.observe import PART_ROWS, mock_batches
from galbatch.mock.population import BLOCK_ROWS
from galbatch.spec import Survey, load_survey

ROWS = BLOCK_ROWS + 4000


def catalogue(survey: Survey, rows: int = ROWS, seed: int = 1, batch_rows: int = 10**9) -> pa.Table:
    return pa.concat_tables(mock_batches(survey, rows, seed, batch_rows)).combine_chunks()


def numbers(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy().astype(float)


@pytest.fixture(scope="module")
def alhambra() -> pa.Table:
    return catalogue(load_survey("alhambra"))


@pytest.mark.parametrize("name", ["alhambra", "jpas", "zcosmos", "lsst_dc2"])
def test_columns_are_the_survey_s_own(name: str) -> None:
    survey = load_survey(name)
    table = next(mock_batches(survey, 100, 3, 100))
    assert table.column_names == [column.name for column in survey.columns]
    assert len(table) == 100
    for column in survey.columns:
        kind = table.schema.field(column.name).type
        if column.shape:
            assert kind == pa.list_(kind.value_type, column.shape[0])
            kind = kind.value_type
        assert (
            str(kind)
            .replace("double", "float64")
            .replace("float", "float32")
            .replace("float3264", "float64")
            == column.kind
        )
    ids = table[survey.id.column]
    assert pc.count_distinct(ids).as_py() == 100
    for name_ in survey.required:
        assert table[name_].null_count == 0


@pytest.mark.parametrize("batch_rows", [1000, 7919, BLOCK_ROWS, 10**6])
def test_batches_do_not_change_the_rows(alhambra: pa.Table, batch_rows: int) -> None:
    batches = list(mock_batches(load_survey("alhambra"), ROWS, 1, batch_rows))
    assert [len(batch) for batch in batches[:-1]] == [batch_rows] * (len(batches) - 1)
    assert pa.concat_tables(batches).combine_chunks().equals(alhambra)


def test_a_longer_catalogue_begins_with_the_shorter(alhambra: pa.Table) -> None:
    assert catalogue(load_survey("alhambra"), 500).equals(alhambra.slice(0, 500).combine_chunks())


def test_another_seed_is_another_sky(alhambra: pa.Table) -> None:
    other = catalogue(load_survey("alhambra"), 500, seed=2)
    assert not np.array_equal(numbers(other, "F814W"), numbers(alhambra, "F814W")[:500])


def test_ids_and_their_digits(alhambra: pa.Table) -> None:
    ids = alhambra["ID"].to_numpy()
    assert (np.diff(ids) == 1).all()
    assert len(str(ids[0])) == 11
    assert str(ids[0]).startswith("814")
    for name, place in (("Field", 3), ("Pointing", 4), ("CCD", 5)):
        assert [int(str(i)[place]) for i in ids[:50]] == alhambra[name].to_pylist()[:50]


def test_an_id_of_two_parts() -> None:
    table = catalogue(load_survey("jpas"), PART_ROWS + 10)
    tile, number = table["TILE_ID"].to_numpy(), table["NUMBER"].to_numpy()
    assert np.array_equal(table["OBJID"].to_numpy(), tile.astype(np.int64) * 2**32 + number)
    assert tile[-1] == tile[0] + 1


def test_sentinels(alhambra: pa.Table) -> None:
    survey = load_survey("alhambra")
    unseen = np.zeros(len(alhambra))
    for band in survey.bands:
        value, error = numbers(alhambra, band.value or ""), numbers(alhambra, band.error or "")
        assert np.isfinite(value).all() and np.isfinite(error).all()
        assert (error[value == -99] == 0).all()
        limits = error[value == 99]
        # One magnitude and three quarters beyond the 5-sigma depth, less for large objects.
        assert (limits < (band.depth or 0) + 2.5 * np.log10(5) + 0.01).all()
        assert (limits > (band.depth or 0) - 1.0).all()
        assert (error[np.abs(value) < 90] > 0).all()
        unseen += value == -99
    assert np.array_equal(24 - unseen, numbers(alhambra, "nfobs"))
    assert abs(unseen.mean() / 23 - 0.02) < 0.002


def test_stars_never_carry_a_redshift(alhambra: pa.Table) -> None:
    flag = numbers(alhambra, "Stellar_Flag")
    redshift = numbers(alhambra, "zb_1")
    magnitude = numbers(alhambra, "F814W")
    assert set(flag) == {0.0, 0.5, 1.0}
    assert (redshift[flag == 1] == -99).all()
    assert (redshift[flag == 0] > 0).all()
    assert (flag[magnitude > 22.5] == 0.5).all()
    assert (flag[magnitude < 22.49] != 0.5).all()
    assert 0.05 < (redshift == -99).mean() < 0.15

    zcosmos = catalogue(load_survey("zcosmos"))
    assert 0.01 < (numbers(zcosmos, "zpec") == 0).mean() < 0.03


def test_positions_are_in_the_footprint(alhambra: pa.Table) -> None:
    mock = load_survey("alhambra").mock
    assert mock is not None and mock.ra is not None and mock.dec is not None
    for name, (low, high) in (("RA", mock.ra), ("Dec", mock.dec)):
        assert low <= numbers(alhambra, name).min() < numbers(alhambra, name).max() <= high
    # Equal area: as many in the southern half of sin(declination).
    sine = np.sin(np.radians(numbers(alhambra, "Dec")))
    south, north = np.sin(np.radians(mock.dec))
    assert abs((sine < (south + north) / 2).mean() - 0.5) < 5 * np.sqrt(0.25 / ROWS)


def test_shapes_tell_bright_stars_from_galaxies(alhambra: pa.Table) -> None:
    flag, stellarity = numbers(alhambra, "Stellar_Flag"), numbers(alhambra, "stell")
    magnitude = numbers(alhambra, "F814W")
    assert stellarity.min() >= 0 and stellarity.max() <= 1
    assert np.median(stellarity[flag == 1]) > 0.85
    assert np.median(stellarity[(flag == 0) & (magnitude < 21)]) < 0.1
    faint = stellarity[magnitude > 24.5]
    assert 0.35 < np.median(faint) < 0.65
    assert (numbers(alhambra, "a") >= numbers(alhambra, "b")).all()
    ratio = numbers(alhambra, "s2n")
    assert np.corrcoef(np.log(ratio[ratio > 1]), magnitude[ratio > 1])[0, 1] < -0.9


def test_saturation_is_of_bright_stars(alhambra: pa.Table) -> None:
    saturated = numbers(alhambra, "Satur_Flag") == 1
    assert 0 < saturated.mean() < 0.01
    assert (numbers(alhambra, "F814W")[saturated] < 18.1).all()


def test_labels_are_usable_for_every_survey() -> None:
    for name in ("alhambra", "jpas", "zcosmos", "lsst_dc2"):
        survey = load_survey(name)
        table = catalogue(survey, 2000)
        label = survey.labels.redshift
        assert label is not None
        values = numbers(table, label.column)
        usable = (values >= label.low) & (values <= label.high)
        for condition in label.where:
            column = numbers(table, condition.column)
            if condition.values:
                usable &= np.isin(column, condition.values)
            if condition.low is not None:
                usable &= column >= condition.low
            if condition.high is not None:
                usable &= column <= condition.high
        assert usable.mean() > 0.8, name


def with_mock(survey: Survey, **words: object) -> Survey:
    assert survey.mock is not None
    raw = survey.model_dump(exclude_unset=True)
    raw["mock"] |= words
    return Survey.model_validate(raw)


def test_without_a_mock_section_the_message_says_so() -> None:
    raw = load_survey("lsst_dc2").model_dump(exclude_unset=True)
    survey = Survey.model_validate({**raw, "mock": None})
    with pytest.raises(SpecError, match="survey lsst_dc2: has no 'mock' section"):
        mock_batches(survey, 10, 1, 10)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"columns": {"magg_u_lsst": "x"}}, "no column 'magg_u_lsst'.*mag_u_lsst"),
        ({"unobserved_bands": {"w": 0.5}}, "no band 'w'"),
    ],
)
def test_misspelt_words_are_named(words: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        mock_batches(with_mock(load_survey("lsst_dc2"), **words), 10, 1, 10)


def test_a_band_without_depth_is_named() -> None:
    raw = load_survey("lsst_dc2").model_dump(exclude_unset=True)
    bands = [dict(band) for band in raw["bands"]]
    del bands[2]["depth"]
    with pytest.raises(SpecError, match="band r: a mock needs its 'depth'"):
        mock_batches(Survey.model_validate({**raw, "bands": bands}), 10, 1, 10)


@pytest.mark.parametrize("error", ["absolute", "relative"])
def test_fluxes_in_the_survey_s_unit(error: str) -> None:
    """The same sky in magnitudes and in another unit of flux is the same where both are seen."""
    survey = load_survey("lsst_dc2")
    raw = survey.model_dump(exclude_unset=True)
    raw["columns"] = [dict(column, unit="") for column in raw["columns"]]
    raw["photometry"] = {
        "quantity": "flux", "unit": "1e-19 erg / (s cm2 Angstrom)", "error": error,
    }  # fmt: skip
    fluxes = catalogue(Survey.model_validate(raw), 1000)
    magnitudes = catalogue(survey, 1000)
    band = survey.bands[3]
    f_lambda = numbers(fluxes, "mag_i_lsst") * 1e-19
    f_nu = f_lambda * band.wavelength**2 / 2.99792458e18
    assert -2.5 * np.log10(f_nu) - 48.6 == pytest.approx(
        numbers(magnitudes, "mag_i_lsst"), abs=1e-3
    )
    relative = numbers(magnitudes, "mag_err_i_lsst") * np.log(10) / 2.5
    stated = numbers(fluxes, "mag_err_i_lsst")
    stated = stated if error == "relative" else stated / numbers(fluxes, "mag_i_lsst")
    assert stated == pytest.approx(relative, rel=1e-3)
    # A flux below zero is a measurement.
    assert (numbers(fluxes, "mag_u_lsst") < 0).any()


def test_a_sky_can_be_made_in_parts() -> None:
    survey = load_survey("alhambra")
    whole = catalogue(survey, 40_000, 3, 40_000)
    part = pa.concat_tables(mock_batches(survey, 40_000, 3, 9_000, BLOCK_ROWS)).combine_chunks()
    assert part.equals(whole.slice(BLOCK_ROWS).combine_chunks())
    with pytest.raises(ValueError, match="a multiple of"):
        mock_batches(survey, 10, 3, 10, 7)
