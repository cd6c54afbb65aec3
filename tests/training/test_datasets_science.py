"""The scientific test set: cosmic rays put on single sources."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from scipy import ndimage

pytest.importorskip("torch")

from crmend.errors import CrmendWarning, InvalidInputError
from crmend_training import datasets
from crmend_training.cli import main
from crmend_training.datasets import harvest, science, science_files

NAME = "CSST_MSC_MS_{}_20280101000000_20280101000230_10100000001_08_L{}_V01.fits"
ZERO_POINT = 26.29


STARS = [
    ("star", 17.3, 80.3, 80.0), ("star", 19.0, 80.0, 230.6),
    ("star", 20.9, 240.0, 70.4), ("star", 23.2, 230.0, 240.0),
]  # fmt: skip
GALAXIES = [
    ("galaxy", 19.2, 150.0, 80.0), ("galaxy", 21.4, 150.0, 160.0), ("galaxy", 22.9, 80.0, 150.0)
]  # fmt: skip


@pytest.fixture
def write_pair(paint_tracks):
    """Return what writes pairs: write_pair(folder, rng, sources)."""

    def write(folder, rng, sources, name=NAME):
        """Write an exposure with sources (type, mag, y, x), its twin, truth and catalogue."""
        shape = (320, 320)
        y, x = np.mgrid[:320, :320]
        clean = rng.normal(0.3, 0.05, shape)
        for _, mag, sy, sx in sources:
            flux = 10 ** (0.4 * (ZERO_POINT - mag))
            clean += flux * np.exp(-((y - sy) ** 2 + (x - sx) ** 2) / 3.0) / (3.0 * np.pi)
        truth, energies = paint_tracks(rng, shape, 60)
        hdus = [fits.PrimaryHDU()]
        hdus[0].header.update({"INSTRUME": "MSC", "DETECTOR": "CHIP08", "EXPTIME": 150.0})
        for plane, data in (("SCI", clean + truth / 150), ("ERR", clean * 0 + 0.05)):
            hdus.append(fits.ImageHDU(data.astype(np.float32), name=plane))
            hdus[-1].header.update({"BUNIT": "e-/s", "ZP": ZERO_POINT})
        hdus.append(fits.ImageHDU(np.zeros(shape, np.int32), name="FLAG"))
        fits.HDUList(hdus).writeto(folder / name.format("SCI", 1))
        fits.writeto(folder / name.format("NCR", 1), clean.astype(np.float32))
        fits.writeto(folder / name.format("CRS", 0), truth)
        kinds, mags, ys, xs = zip(*sources, strict=True)
        table = Table({"type": kinds, "mag": mags, "x": xs, "y": ys})
        table["r_half"] = [0.0 if kind == "star" else 2.5 for kind in kinds]
        table.write(folder / name.format("CAT", 0))
        return energies

    return write


@pytest.fixture
def science_pair(tmp_path, rng, write_pair):
    """Return a pair with four stars of mag 17–23, and the charges of its CRs."""
    energies = write_pair(tmp_path, rng, STARS)
    (pair,) = datasets.find_pairs(tmp_path)
    return pair, energies


def stars_only(count, **settings):
    return science.ScienceSettings(types=("star",), crs_per_source=count, **settings)


def test_science_files_say_what_is_in_them(science_pair, tmp_path):
    pair, energies = science_pair
    rows = science.build_science_set([pair], tmp_path / "science", stars_only(40))
    assert [row.file for row in rows] == [
        f"CRMEND_SCIENCE_08_star_{mag}.fits" for mag in ("17.0", "19.0", "21.0", "23.0")
    ]
    assert [row.magnitude for row in rows] == [17.3, 19.0, 20.9, 23.2]
    path = tmp_path / "science" / rows[1].file
    header = fits.getheader(path, ("HIT", 7))
    assert header["SRCMAG"] == 19.0
    assert header["ZP"] == ZERO_POINT
    assert header["BKGNOISE"] == pytest.approx(0.05, rel=0.05)
    assert np.abs(energies - header["CRENERGY"]).min() < 1.0
    cases = list(science_files.read_science(path))
    assert len(cases) == 40
    source = cases[0].source
    aperture = (source.clean - source.background)[20:45, 20:45].sum()
    assert ZERO_POINT - 2.5 * np.log10(aperture) == pytest.approx(19.0, abs=0.01)


def test_science_distances_and_charges_are_those_of_the_pixels(science_pair, tmp_path):
    folder = tmp_path / "science"
    science.build_science_set([science_pair[0]], folder, stars_only(40))
    paths = science_files.find_science(folder)
    cases = [case for path in paths for case in science_files.read_science(path)]
    for case in cases:
        added = case.hit - case.source.clean
        assert added.sum() * 150 == pytest.approx(case.energy, rel=1e-2)
        y, x = ndimage.center_of_mass(np.where(case.mask, added, 0))
        distance = np.hypot(y - case.source.stamp_y, x - case.source.stamp_x)
        assert distance == pytest.approx(case.distance, abs=0.05)
    distances = np.array([case.distance for case in cases])
    assert distances.max() <= 15.0
    # 160 distances, even over 0–15 px.
    np.testing.assert_allclose(np.histogram(distances, 3, (0, 15))[0] / 160, 1 / 3, atol=0.08)


def test_the_same_seed_gives_the_same_science_set_with_any_number_of_jobs(
    tmp_path, rng, write_pair
):
    for number in (8, 9):
        name = NAME.replace("_08_L", f"_{number:02d}_L")
        write_pair(tmp_path, rng, STARS, name)
    pairs = datasets.find_pairs(tmp_path)
    for folder, jobs in (("a", 1), ("b", 2)):
        science.build_science_set(pairs, tmp_path / folder, stars_only(10), jobs)
    first, second = (science_files.find_science(tmp_path / folder) for folder in "ab")
    assert len(first) == 8
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_a_science_set_has_stars_and_galaxies_and_says_what_is_missing(
    tmp_path, rng, write_pair
):
    write_pair(tmp_path, rng, STARS + GALAXIES)
    settings = science.ScienceSettings(crs_per_source=5)
    with pytest.warns(CrmendWarning, match="galaxy of 17 mag: the nearest has 19.20 mag"):
        rows = science.build_science_set(
            datasets.find_pairs(tmp_path), tmp_path / "s", settings
        )
    found = {(row.type, row.wanted): row.magnitude for row in rows}
    assert found == {
        ("star", 17.0): 17.3, ("star", 19.0): 19.0, ("star", 21.0): 20.9, ("star", 23.0): 23.2,
        ("galaxy", 17.0): None, ("galaxy", 19.0): 19.2, ("galaxy", 21.0): 21.4,
        ("galaxy", 23.0): 22.9,
    }  # fmt: skip
    assert science_files.read_index(tmp_path / "s" / "index.csv") == rows
    paths = science_files.find_science(tmp_path / "s")
    assert len(paths) == 7
    header = fits.getheader(paths[-1])
    wanted = {"SRCTYPE": "galaxy", "SRCRHALF": 2.5, "MAGWANT": 23.0, "MAGTOL": 1.0, "NCR": 5}
    assert {name: header[name] for name in wanted} == wanted


def test_the_set_of_the_paper_takes_the_nearest_magnitude_of_any_type(
    tmp_path, rng, write_pair
):
    write_pair(tmp_path, rng, STARS + GALAXIES)
    settings = science.ScienceSettings(types=("any",), crs_per_source=5)
    rows = science.build_science_set(datasets.find_pairs(tmp_path), tmp_path / "s", settings)
    assert [row.magnitude for row in rows] == [17.3, 19.0, 20.9, 22.9]
    (case, *_) = science_files.read_science(tmp_path / "s" / rows[3].file)
    assert (case.source.kind, case.source.type_wanted) == ("galaxy", "any")


def test_sources_too_wide_or_beside_a_brighter_one_are_not_taken(tmp_path, rng, write_pair):
    crowd = [("star", 18.5, 80.0, 236.0), ("galaxy", 17.1, 150.0, 80.0)]
    write_pair(tmp_path, rng, STARS + crowd)
    settings = science.ScienceSettings(
        types=("star", "galaxy"), magnitudes=(19.0,), widest=2.0, crs_per_source=5
    )
    with pytest.warns(CrmendWarning, match="galaxy of 19 mag: none that is isolated"):
        star, galaxy = science.build_science_set(
            datasets.find_pairs(tmp_path), tmp_path / "s", settings
        )
    # That of mag 19.0 has one of 18.5 at 5.4 px.
    assert star.magnitude == 18.5
    assert galaxy.file == ""


def test_too_few_cosmic_rays_are_told_and_nothing_at_all_is_an_error(science_pair, tmp_path):
    pair = science_pair[0]
    one = stars_only(200, magnitudes=(19.0,))
    with pytest.warns(CrmendWarning, match=r"star of 19 mag: \d+ CRs of 200"):
        rows = science.build_science_set([pair], tmp_path / "few", one)
    assert 40 <= rows[0].cosmic_rays <= 60
    faint = stars_only(5, magnitudes=(29.0,))
    with pytest.raises(InvalidInputError, match=r"nothing .* the nearest has 23.20 mag"):
        science.build_science_set([pair], tmp_path / "none", faint)
    with pytest.raises(FileNotFoundError, match=r"no index\.csv"):
        science_files.find_science(tmp_path / "none")


def test_the_command_tells_gaps_and_keeps_a_complete_set(tmp_path, rng, capsys, write_pair):
    write_pair(tmp_path, rng, STARS)
    recipe = tmp_path / "own.toml"
    recipe.write_text("[dataset.science]\nmagnitudes = [19.0]\ncrs_per_source = 5\n")
    command = [
        "dataset",
        "science",
        str(tmp_path),
        "--out",
        str(tmp_path / "set"),
        "--jobs",
        "1",
    ]
    command += ["--recipe", str(recipe)]
    assert main(command) == 0
    told = capsys.readouterr()
    assert "1 sources, 1 gaps" in told.out
    assert "warning: detector 8, galaxy of 19 mag: none that is isolated" in told.err
    assert main([*command, "--resume"]) == 0
    assert "is complete" in capsys.readouterr().out
    assert main([*command, "--resume", "--types", "any"]) == 3
    assert "make the set anew with --overwrite" in capsys.readouterr().err
    recipe.write_text("[dataset.science]\nmagnitude = [19.0]\n")
    assert main(command) != 0
    assert "dataset.science has unknown keys magnitude" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"types": ("quasar",)}, "types of a science set"),
        ({"tolerance": 0.0}, "tolerance of a science set is 0.0; expected more than 0"),
        ({"magnitudes": ()}, "expected one or more"),
    ],
)
def test_science_settings_are_checked(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        science.ScienceSettings(**settings)


def test_a_pair_without_its_twin_is_named(science_pair, tmp_path):
    science_pair[0].clean.unlink()
    with pytest.raises(InvalidInputError, match="no CR-free twin"):
        science.build_science_set(datasets.find_pairs(tmp_path), tmp_path / "science")


def test_injected_charge_is_added_in_the_unit_of_the_exposure(science_pair, rng):
    """A saturating event is clipped and ignored; flagged cosmic rays take no part."""
    from dataclasses import replace

    from crmend.exposure import read_exposure

    exposure = read_exposure(science_pair[0].level1)
    exposure.flag[300, 300] = 1 << 20
    exposure = replace(exposure, saturation=400.0)
    cr = np.zeros(exposure.image.shape, np.float32)
    cr[20, 20], cr[20, 30] = 1500.0, 1e6
    frame = harvest.injected_frame(exposure, cr)
    before = harvest.injected_frame(exposure, np.zeros_like(cr))
    added = frame.image - before.image
    assert added[20, 20] == pytest.approx(1500 / 150 / 0.05, rel=0.05)
    assert frame.saturated[20, 30]
    assert added[20, 30] == pytest.approx(400 / 0.05, rel=0.05)
    assert frame.ignore[300, 300]
    assert not frame.ignore[20, 20]
