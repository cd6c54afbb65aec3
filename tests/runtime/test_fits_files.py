"""Files that are packed otherwise, and outputs that are no regular files."""

import bz2
import io
import lzma
import os
import socket
import zipfile
from pathlib import Path

import pytest

from crmend.errors import FileFormatError, OutputError
from crmend.exposure import check_output, read_exposure, update_flags, write_exposure


def zipped(content):
    """Return a zip archive with one file."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr("a.fits", content)
    return memory.getvalue()


@pytest.mark.parametrize(
    ("packer", "pack"), [("bzip2", bz2.compress), ("xz", lzma.compress), ("zip", zipped)]
)
@pytest.mark.parametrize("name", ["b.fits.packed", "b.fits"])
def test_other_packers_are_named(level1, tmp_path, packer, pack, name):
    path = tmp_path / name
    path.write_bytes(pack(level1().read_bytes()))
    with pytest.raises(FileFormatError, match=f"is packed with {packer}, expected .* gzipped"):
        read_exposure(path)


@pytest.mark.parametrize("ending", [".fits.fz", ".fits.FZ", ".fits.bz2", ".fits.Z"])
def test_endings_that_promise_other_packing(level1, tmp_path, ending):
    exposure = read_exposure(level1())
    for call in (check_output, lambda path: write_exposure(path, exposure)):
        with pytest.raises(OutputError, match=r"ends in .*expected \.fits or \.fits\.gz"):
            call(tmp_path / f"out{ending}")
    assert [path.name for path in tmp_path.iterdir()] == ["frame_L1.fits"]


def test_flags_of_a_packed_file_are_still_updated(level1, image):
    path = level1([("SCI", image), ("FLAG", image.astype("i4"))], name="a.fits.fz")
    exposure = read_exposure(path)
    update_flags(path, exposure, image > 5)
    assert ((read_exposure(path).flag & 1048576 > 0) == (image > 5)).all()


@pytest.fixture
def special(tmp_path):
    """Return a FIFO, a link to it and a socket."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    server = socket.socket(socket.AF_UNIX)
    before = os.getcwd()
    os.chdir(tmp_path)  # the path of a socket must be short
    server.bind("socket")
    os.chdir(before)
    yield [tmp_path / "fifo", tmp_path / "link", tmp_path / "socket"]
    server.close()


def test_special_files_are_not_replaced(level1, special):
    exposure = read_exposure(level1())
    for path in special:
        with pytest.raises(OutputError, match="is a device, pipe or socket"):
            write_exposure(path, exposure)
        assert path.exists()
        assert not path.is_file()


@pytest.mark.parametrize("name", ["/dev/crmend.fits", "/dev/fd/crmend.fits"])
def test_nothing_is_written_among_the_devices(name):
    # /dev/stdout is a link: where it leads to a file, root would put the result in its place.
    with pytest.raises(OutputError, match="is a device, pipe or socket"):
        check_output(Path(name))


def test_special_files_are_not_read(special):
    for path in special:
        with pytest.raises(FileFormatError, match="is a device, pipe or socket"):
            read_exposure(path)


def test_input_with_a_name_too_long(tmp_path):
    path = tmp_path / ("x" * 300 + ".fits")
    with pytest.raises(FileFormatError, match="cannot be opened: File name too long"):
        read_exposure(path)
    check_output(tmp_path / "out.fits", [path])


def test_links_to_files_and_to_nothing(level1, tmp_path):
    exposure = read_exposure(level1())
    link, target = tmp_path / "link.fits", tmp_path / "target.fits"
    link.symlink_to(target)
    with pytest.raises(OutputError, match="exists; choose another name"):
        write_exposure(link, exposure, overwrite=False)
    assert link.is_symlink()
    target.write_text("old")
    write_exposure(link, exposure)
    assert read_exposure(link).detector == "8"


def test_name_too_long_is_known_early(tmp_path):
    with pytest.raises(OutputError, match="File name too long"):
        check_output(tmp_path / ("x" * 300 + ".fits"))


@pytest.mark.parametrize("name", ["x" * 250 + ".fits", "ü" * 123 + ".fits.gz"])
def test_the_longest_names(level1, tmp_path, name):
    path = tmp_path / name
    write_exposure(path, read_exposure(level1()))
    assert read_exposure(path).detector == "8"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_name_like_an_address_is_a_file(level1, tmp_path, monkeypatch):
    level1(name="http:x.fits")
    monkeypatch.chdir(tmp_path)
    assert read_exposure("http:x.fits").detector == "8"
    monkeypatch.setattr("astropy.io.fits.open", lambda *_args, **_more: 1 / 0)
    with pytest.raises(FileFormatError, match=r"^http:x\.fits cannot be read as FITS"):
        read_exposure("http:x.fits")
