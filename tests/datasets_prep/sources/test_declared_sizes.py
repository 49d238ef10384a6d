"""Files of some kB whose headers or compressed contents stand for gigabytes: refused, or read in bounded memory."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.io import savemat

from datasets_prep.decode.arrays import ArrayPreparation, finite_range
from datasets_prep.decode.images import load_pixels
from datasets_prep.samples.stored import ArrayWindow, BadSignalError
from datasets_prep.sources import open_source
from datasets_prep.sources.archives.imagenet_labels import validation_synsets
from datasets_prep.sources.folders import parquet_pages, parquet_rows
from tests.support import mat_bombs
from tests.support.memory import PeakMemory
from walloc_cdl.errors import CallError

MB = 10**6


def sparse(path, shape, dtype=np.uint8):
    """A .npy file of a header and a hole."""
    values = np.lib.format.open_memmap(path, "w+", dtype, shape)
    assert path.stat().st_blocks * 512 < 100_000
    return values, path


@pytest.mark.parametrize(
    ("variable", "reason"),
    [
        (
            mat_bombs.variable(mat_bombs.CELL, (1000, 1000), mat_bombs.cells(10**6)),
            "variable Y is of kind cell; expected an array of numbers",
        ),
        (
            mat_bombs.variable(mat_bombs.DOUBLE, (4, 4), mat_bombs.numbers(2**26)),
            "variable Y of more than 65,792 bytes",
        ),
        (
            mat_bombs.variable(mat_bombs.DOUBLE, (4, 4), mat_bombs.numbers(128), name=bytes(2**26)),
            "cannot be decoded: could not read bytes",
        ),
        (
            mat_bombs.variable(mat_bombs.DOUBLE, (2**29, 2**29), mat_bombs.numbers(128)),
            "variable Y of 288,230,376,151,711,744 values; at most 536,870,912 are read",
        ),
        (
            mat_bombs.variable(mat_bombs.UINT8, (2**13, 2**12), mat_bombs.numbers(2**25)),
            "33,554,432 values from a file of",
        ),
    ],
    ids=["cells", "data", "name", "shape", "zeros"],
)
def test_a_mat_file_takes_no_more_memory_than_its_array_may_have(tmp_path, variable, reason):
    path = mat_bombs.write_mat(tmp_path / "a.mat", variable)
    with PeakMemory() as memory, pytest.raises(CallError, match=reason):
        open_source(f"mat:{path}?variable=Y")
    assert memory.num_bytes < 40 * MB


def test_variables_of_other_kinds_are_not_taken_for_the_array(tmp_path):
    path = tmp_path / "a.mat"
    others = {"names": np.array([["a", "b"], ["c", "d"]], object), "mask": np.eye(4, dtype=bool).tolist()}
    savemat(path, {**others, "Y": np.arange(48.0).reshape(3, 4, 4)}, do_compression=True)
    with pytest.raises(CallError, match=r"2 arrays \(mask, Y\); choose one"):
        open_source(f"mat:{path}")
    for compressed in (False, True):
        savemat(path, {"names": others["names"], "Y": np.arange(48.0).reshape(3, 4, 4)}, do_compression=compressed)
        source = open_source(f"mat:{path}")
        loaded = source.preparation(multiple=1).load(source.read("train", 0))
        np.testing.assert_allclose(loaded, np.arange(48.0).reshape(3, 4, 4) / 47 - 0.5, atol=1e-6)


def test_a_table_of_cells_is_no_table_of_synsets(tmp_path):
    (tmp_path / "labels.txt").write_text("1\n2\n")
    bomb = mat_bombs.variable(mat_bombs.CELL, (3000, 1000), mat_bombs.cells(3 * 10**6), name=b"synsets")
    mat_bombs.write_mat(tmp_path / "meta.mat", bomb)
    with (
        PeakMemory() as memory,
        pytest.raises(CallError, match=r"not the devkit's meta.mat \(variable synsets of more"),
    ):
        validation_synsets(tmp_path / "labels.txt", None)
    assert memory.num_bytes < 60 * MB


def test_windows_are_not_listed_one_by_one(tmp_path):
    _, path = sparse(tmp_path / "a.npy", (10**6, 1, 8, 8))
    with PeakMemory() as memory:
        source = open_source(f"npy:{path}?patch=4&hop=2")
    assert memory.num_bytes < 30 * MB
    assert source.num_samples("train") == 9 * 10**6
    assert source.key("train", 9 * 10**6 - 2) == "a.npy#999999@4,2"
    assert source.read("train", 13) == ArrayWindow(path, 1, (2, 2, 4, 4))
    assert source.listing.splits["train"].groups[13] == "a.npy#00001"


def test_more_windows_than_can_be_listed_are_refused(tmp_path):
    _, path = sparse(tmp_path / "a.npy", (10**9, 1, 8, 8))
    with pytest.raises(CallError, match="1,000,000,000 arrays or patches, more than 134,217,728; split the file"):
        open_source(f"npy:{path}")
    _, path = sparse(tmp_path / "b.npy", (1, 20_000, 20_000))
    with pytest.raises(CallError, match=r"400,000,000 values, more than 268,435,456; cut it with \?patch=SIDE"):
        open_source(f"npy:{path}")
    assert open_source(f"npy:{path}?patch=5000").num_samples("train") == 16


def test_a_window_is_converted_in_the_memory_of_the_result(tmp_path):
    _, path = sparse(tmp_path / "a.npy", (16, 1024, 1024))
    preparation = ArrayPreparation(16, 1024, 1024, 0, 255)
    with PeakMemory() as memory:
        loaded = preparation.load(ArrayWindow(path, 0, None))
    assert loaded.nbytes == 2**26
    assert memory.num_bytes < 1.6 * loaded.nbytes  # the file's pages count, too: a quarter


@pytest.mark.parametrize(
    ("kind", "mode", "options"), [("WEBP", "RGB", {"lossless": True, "method": 0}), ("JPEG2000", "L", {})]
)
def test_some_bytes_of_an_image_do_not_become_megapixels(kind, mode, options):
    file = io.BytesIO()
    Image.new(mode, (4200, 4200)).save(file, kind, **options)
    reason = r"17,640,000 pixels from a file of \d+ bytes, more than 1[67],"
    with PeakMemory() as memory, pytest.raises(BadSignalError, match=reason):
        load_pixels(file.getvalue(), 16, 3)
    assert memory.num_bytes < 10 * MB


def test_a_blank_page_of_bits_is_an_image():
    page = io.BytesIO()
    Image.new("1", (7016, 4960), 1).save(page, "TIFF", compression="group4")
    assert len(page.getvalue()) < 3000
    assert (load_pixels(page.getvalue(), 16, 1) == 255).all()


def test_the_range_is_measured_in_blocks():
    values = np.linspace(-3, 5, 2**24, dtype=np.float32).reshape(4096, 4096).T
    values[0, 0], values[-1, -1], values[7, 7] = np.nan, np.inf, -np.inf
    with PeakMemory() as memory:
        low, high = finite_range(values)
    assert memory.num_bytes < values.nbytes // 4
    assert (low, high) == (pytest.approx(-3, abs=1e-5), pytest.approx(5, abs=1e-5))
    assert finite_range(np.full(3, np.nan)) == (np.inf, -np.inf)


@pytest.mark.parametrize("struct", [False, True], ids=["binary", "struct"])
def test_one_large_value_in_many_rows_of_a_parquet_file(tmp_path, monkeypatch, struct):
    # 262 kB, which became 268 MB where 1,024 rows were decoded at once
    value = np.random.default_rng(0).bytes(2**18)
    images = pa.DictionaryArray.from_arrays(pa.array([0] * 1024, pa.int32()), pa.array([value]))
    if struct:
        images = pa.StructArray.from_arrays([images, pa.nulls(1024, pa.string())], ["bytes", "path"])
    pq.write_table(pa.table({"image": images}), tmp_path / "a.parquet", store_schema=False)
    assert (tmp_path / "a.parquet").stat().st_size < 300_000
    monkeypatch.setattr(parquet_rows, "BATCH_BYTES", 2**22)
    with PeakMemory() as memory:
        source = open_source(f"parquet:{tmp_path / 'a.parquet'}")
        assert len(source.read("train", 1000)) == 2**18
    assert memory.num_bytes < 50 * MB
    assert (source.num_samples("train"), source.num_bytes("train", 1023)) == (1024, 2**18)


def test_a_page_that_is_compressed_too_much_is_not_read(tmp_path, monkeypatch):
    pq.write_table(pa.table({"image": [bytes(2**25), b"a"]}), tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 10_000
    monkeypatch.setattr(parquet_rows, "BATCH_BYTES", 2**23)
    reason = r"a.parquet' cannot be read: a page of [\d,]+ bytes becomes 33,554,4\d\d, decompressed; restore or omit it"
    with PeakMemory() as memory, pytest.raises(CallError, match=reason):
        open_source(f"parquet:{tmp_path / 'a.parquet'}")
    assert memory.num_bytes < 20 * MB


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("statistics", [True, False])
def test_the_headers_of_all_pages_are_found(tmp_path, version, statistics):
    values = [np.random.default_rng(n % 700).bytes(1000) for n in range(2000)]
    options = {"data_page_version": version, "write_statistics": statistics, "write_page_checksum": True}
    pq.write_table(pa.table({"image": values}), tmp_path / "a.parquet", data_page_size=50_000, **options)
    chunk = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0).column(0)
    with open(tmp_path / "a.parquet", "rb") as stream:
        pages = list(parquet_pages.page_headers(stream, chunk))
        assert list(parquet_pages.page_headers(stream, chunk, only_first=True)) == pages[:1]
    assert [page.kind for page in pages] == [2, *[0 if version == "1.0" else 3] * (len(pages) - 1)]
    assert pages[0].num_bytes == 700 * 1004
    assert 0 < chunk.total_compressed_size - sum(page.stored_bytes for page in pages) < 5000 * len(pages)


@pytest.mark.parametrize("position", range(4, 40))
def test_a_damaged_header_of_a_page_is_an_error_of_the_file(tmp_path, position):
    pq.write_table(pa.table({"image": [b"a" * 100, b"b"] * 8}), tmp_path / "a.parquet")
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[position] ^= 0xFF
    (tmp_path / "a.parquet").write_bytes(data)
    raised = None
    try:
        open_source(f"parquet:{tmp_path / 'a.parquet'}").read("train", 3)
    except CallError as error:
        raised = str(error)
    assert raised is None or "cannot be read: " in raised


def test_rows_of_moderate_size_are_decoded_in_full_runs(tmp_path):
    pq.write_table(pa.table({"image": [b"%08d" % n for n in range(2000)]}), tmp_path / "a.parquet", row_group_size=500)
    with open(tmp_path / "a.parquet", "rb") as stream:
        file = pq.ParquetFile(stream)
        assert parquet_rows.rows_at_once(file, stream, ["image"], 1024) == 1024
        assert parquet_rows.rows_at_once(file, stream, ["image"], 64, group=3) == 64


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
@pytest.mark.parametrize("dictionary", [True, False])
def test_the_size_of_a_dictionary_is_read_from_its_page(tmp_path, monkeypatch, compression, dictionary):
    values = [b"a" * 3000, b"b" * 2000] * 8
    options = {"compression": compression, "use_dictionary": dictionary, "write_statistics": False}
    pq.write_table(pa.table({"image": values}), tmp_path / "a.parquet", **options)
    monkeypatch.setattr(parquet_rows, "BATCH_BYTES", 30_000)
    with open(tmp_path / "a.parquet", "rb") as stream:
        rows = parquet_rows.rows_at_once(pq.ParquetFile(stream), stream, ["image"], 1024)
    assert rows == (5 if dictionary else 11)  # 5,008 bytes in the dictionary; 2,504 bytes on the average
