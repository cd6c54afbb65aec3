"""What the Python functions answer to arrays that they cannot use."""

import numpy as np
import pytest

import crmend
from crmend.errors import InvalidInputError

IMAGE = np.random.default_rng(1).normal(10.0, 1.0, (32, 32))
FOUND = crmend.Detection(IMAGE > 12.0, IMAGE.astype(np.float32))


def test_a_detection_is_no_mask_and_no_image():
    with pytest.raises(InvalidInputError, match=r"^cr_mask is a Detection; .* its \.cr_mask$"):
        crmend.inpaint(IMAGE, FOUND, model="generic")
    with pytest.raises(InvalidInputError, match=r"^image is a Detection; .* plane itself"):
        crmend.clean(FOUND, model="generic")


@pytest.mark.parametrize("number", [5.0, np.float32(5.0), np.array(5)])
def test_one_number_is_no_plane(number):
    expected = r"^error is one number, 5(\.0)?; expected a plane .* np\.full\(\(ny, nx\), 5"
    with pytest.raises(InvalidInputError, match=expected):
        crmend.clean(IMAGE, error=number, model="generic")
    with pytest.raises(InvalidInputError, match=r"^image is one number, 5"):
        crmend.detect(number, model="generic")


@pytest.mark.parametrize("mask", [None, IMAGE > 12.0])
@pytest.mark.parametrize(("unit", "power"), [(1e40, r"e\+4"), (1e-60, "e-5"), (1e-44, "e-4")])
def test_values_beyond_float32_are_named(mask, unit, power):
    image = IMAGE * unit
    image[0, 0], image[0, 1] = np.nan, 0.0
    image = image if mask is None else np.ma.array(image, mask=mask)
    expected = rf"^image has values such as .*{power}.*rescale"
    with pytest.raises(InvalidInputError, match=expected):
        crmend.clean(image, model="generic")


def test_small_units_are_fine():
    found, small = (crmend.detect(IMAGE * unit, model="generic") for unit in (1.0, 1e-35))
    np.testing.assert_allclose(small.cr_probability, found.cr_probability, atol=1e-4)


def test_values_beyond_float32_may_fill_gaps():
    image = np.where(IMAGE > 12.0, 1e300, IMAGE)
    found = crmend.detect(image, model="generic")
    assert not found.cr_mask[image > 1e299].any()


class Refusing:
    """Becomes no array, as a data set of xarray (TypeError) and a tensor with a gradient."""

    def __init__(self, error):
        self.error = error

    def __array__(self, dtype=None, copy=None):
        raise self.error


@pytest.mark.parametrize("kind", [TypeError, ValueError, RuntimeError])
def test_what_refuses_to_become_an_array_is_named(kind):
    expected = r"^image is a Refusing that is no array \(say detach\)"
    with pytest.raises(InvalidInputError, match=expected):
        crmend.clean(Refusing(kind("say detach")), model="generic")


class Lazy:
    """Computes its values whenever it is asked for them, as a dask array."""

    def __init__(self, values):
        self.values, self.computed = values, 0

    def __array__(self, dtype=None, copy=None):
        self.computed += 1
        return np.array(self.values, dtype=dtype)


@pytest.mark.parametrize(
    "work",
    [
        lambda image: crmend.detect(image, model="generic"),
        lambda image: crmend.clean(image, model="generic"),
        lambda image: crmend.inpaint(image, IMAGE > 12.0, model="generic"),
    ],
)
def test_what_is_computed_on_demand_is_computed_once(work):
    image = Lazy(IMAGE)
    work(image)
    assert image.computed == 1


def test_missing_values_of_tables_are_to_be_nan():
    image = IMAGE.astype(object)
    image[0, 0] = None
    with pytest.raises(InvalidInputError, match=r"dtype object; .*missing values to NaN$"):
        crmend.clean(image, model="generic")
