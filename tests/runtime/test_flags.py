import numpy as np
import pytest

from crmend.errors import InvalidInputError
from crmend.flags import CR_BIT, has_flag, set_flag, to_int32


def test_cr_bit_is_the_papers():
    assert CR_BIT == 1048576


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<i4", ">i4", "u4", "i8"])
def test_set_flag_promotes_and_keeps_other_bits(dtype):
    flag = np.array([[0, 1, 8], [16, 129, 3]], dtype)
    before = flag.copy()
    mask = np.array([[True, False, True], [False, True, False]])
    result = set_flag(flag, mask)
    assert result.dtype == np.int32
    assert result.dtype.isnative
    np.testing.assert_array_equal(result, [[1048576, 1, 1048584], [16, 1048705, 3]])
    np.testing.assert_array_equal(flag, before)


def test_signed_short_is_a_bit_pattern():
    flag = np.array([[-32768, -1, 4096]], np.int16)
    result = set_flag(flag, np.array([[False, True, False]]))
    np.testing.assert_array_equal(result, [[32768, 65535 + 1048576, 4096]])
    np.testing.assert_array_equal(has_flag(flag, CR_BIT), [[False, False, False]])
    np.testing.assert_array_equal(has_flag(flag, 32768), [[True, True, False]])


def test_unsigned_32_keeps_the_top_bit():
    flag = np.array([[2**31 + 1]], np.uint32)
    result = set_flag(flag, np.array([[True]]))
    assert int(result.view(np.uint32)[0, 0]) == 2**31 + 1 + 2**20


@pytest.mark.parametrize("dtype", ["u4", "i8", ">u8", "f8"])
def test_wider_planes_keep_the_top_bit(dtype):
    result = to_int32(np.array([[2**31 + 1, 2**32 - 1, 8]], dtype))
    np.testing.assert_array_equal(result.view(np.uint32), [[2**31 + 1, 2**32 - 1, 8]])


@pytest.mark.parametrize("dtype", ["i8", "u8", "f4", "f8"])
def test_no_bit_is_lost_in_silence(dtype):
    with pytest.raises(InvalidInputError, match="at most 32 bits"):
        to_int32(np.array([[2**32]], dtype))


def test_has_flag_takes_several_bits():
    flag = np.array([[0, 1, 2, 4, 3, 1048577]], np.int32)
    np.testing.assert_array_equal(has_flag(flag, 3), [[False, True, True, False, True, True]])
    np.testing.assert_array_equal(has_flag(flag, 0), [[False] * 6])


@pytest.mark.parametrize("dtype", ["i1", "u1", ">i2", "u2", ">i4", "u4", "i8", ">u8"])
def test_has_flag_sees_the_top_bit(dtype):
    top = 1 << min(8 * np.dtype(dtype).itemsize, 32) - 1
    flag = np.array([0, 1, top, top + 2], np.uint64).astype(dtype)
    np.testing.assert_array_equal(has_flag(flag, top), [False, False, True, True])
    every = 2**32 - 1
    np.testing.assert_array_equal(has_flag(flag, every - 1), [False, False, True, True])
    np.testing.assert_array_equal(has_flag(flag, every), [False, True, True, True])
    with pytest.raises(InvalidInputError, match="4294967296 does not fit 32 bits"):
        has_flag(flag, 2**32)


@pytest.mark.parametrize(
    ("flag", "mask", "bit", "match"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), bool), 1, r"\(2, 3\).*\(2, 2\)"),
        (np.zeros((2, 2), int), np.zeros((2, 2), int), 1, "dtype int64, expected bool"),
        (np.zeros((2, 2), int), np.zeros((2, 2), bool), 2**31, "2147483648 does not fit"),
        (np.full((2, 2), 0.5), np.zeros((2, 2), bool), 1, "holds 0.5, expected whole"),
        (np.full((2, 2), np.nan), np.zeros((2, 2), bool), 1, "holds nan"),
        (np.full((2, 2), 2**40), np.zeros((2, 2), bool), 1, "at most 32 bits"),
        (np.full((2, 2), "x"), np.zeros((2, 2), bool), 1, "expected integers"),
        (np.zeros((2, 2), int), np.zeros((2, 2), bool), "a", "flag bit 'a'"),
    ],
)
def test_unusable_arguments(flag, mask, bit, match):
    with pytest.raises(InvalidInputError, match=match):
        set_flag(flag, mask, bit)


def test_floats_have_no_bits():
    with pytest.raises(InvalidInputError, match="float64; expected integers"):
        has_flag(np.zeros((2, 2)), 1)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_whole_floats_are_accepted(dtype):
    result = set_flag(np.array([[8.0, 0.0]], dtype), np.array([[True, False]]))
    np.testing.assert_array_equal(result, [[1048584, 0]])
