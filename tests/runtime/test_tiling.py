"""Tiles against numpy's own padding and slicing."""

import numpy as np
import pytest

from crmend._tiling import make_grid, reflect

SHAPES = [(1, 1), (1, 17), (33, 1), (2, 3), (64, 64), (253, 255), (100, 37)]


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8])
def test_reflect_is_numpys_reflect_padding(length):
    axis = np.arange(length)
    expected = np.pad(axis, 20, mode="reflect")
    assert np.array_equal(reflect(np.arange(-20, length + 20), length), expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("tile", "stride"), [(1, 1), (16, 2), (50, 4), (999, 2)])
def test_tiles_cover_every_pixel_once_from_aligned_origins(shape, tile, stride):
    grid = make_grid(shape, tile, halo=5, stride=stride)
    covered = np.zeros(shape, int)
    for origin in grid.origins:
        assert origin[0] % stride == 0
        assert origin[1] % stride == 0
        written = np.zeros(shape, int)
        ones = np.ones([size + 2 * grid.margin for size in grid.size], int)
        grid.write(ones, origin, written)
        covered += written
    assert np.array_equal(covered, np.ones(shape))
    assert all(size % stride == 0 for size in grid.size)
    assert max(grid.size) <= max(tile, stride)
    assert grid.margin >= 5
    assert grid.margin % stride == 0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("extra", [0, 2])
def test_a_tile_is_a_slice_of_the_padded_frame(shape, extra):
    frame = np.random.default_rng(1).normal(size=shape)
    grid = make_grid(shape, tile=24, halo=9, stride=2)
    border = grid.margin + extra
    padded = np.pad(frame, border + 24, mode="reflect")
    for y, x in grid.origins:
        tile = grid.read(frame, (y, x), extra)
        height, width = (size + 2 * border for size in grid.size)
        expected = padded[y + 24 : y + 24 + height, x + 24 : x + 24 + width]
        assert np.array_equal(tile, expected)
        assert tile.flags.c_contiguous
        assert not np.shares_memory(tile, frame)


def test_reading_and_writing_all_tiles_copies_the_frame():
    frame = np.random.default_rng(2).normal(size=(53, 41))
    grid = make_grid(frame.shape, tile=16, halo=3, stride=2)
    out = np.zeros_like(frame)
    for origin in grid.origins:
        grid.write(grid.read(frame, origin), origin, out)
    assert np.array_equal(out, frame)


def test_tiles_of_a_full_frame_are_equal_and_few():
    grid = make_grid((9232, 9216), tile=256, halo=10, stride=2)
    assert grid.size == (250, 256)
    assert len(grid.origins) == 37 * 36
