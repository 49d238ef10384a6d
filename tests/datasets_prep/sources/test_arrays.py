from __future__ import annotations

import numpy as np
import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from datasets_prep import PrepareConfig, contact_sheet, holdout, open_source, prepare
from datasets_prep.decode.arrays import ArrayLayout, ArrayPreparation
from datasets_prep.job.plan_job import plan_job
from datasets_prep.samples.stored import ArrayWindow, BadSignalError
from walloc_cdl.codec import ResizeCodec, ResizeConfig
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError, JobError
from walloc_cdl.latents import load_manifest, verify


def cube(seed=0, channels=5, height=12, width=16, dtype=np.uint16):
    return np.random.default_rng(seed).integers(0, 1000, (channels, height, width)).astype(dtype)


def saved(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)
    return path


def bands_codec(channels=5, factor=4):
    return ResizeCodec(ResizeConfig(channels=channels, factor=factor, name="bands"))


def load_all(source, split="train"):
    preparation = source.preparation(multiple=1)
    return [preparation.load(source.read(split, index)) for index in range(source.num_samples(split))]


@pytest.mark.parametrize(
    ("layout", "height", "pattern"),
    [
        ("HWC", None, "n c h w -> h w (n c)"),
        ("NHWC", None, "n c h w -> n h w c"),
        ("WCNH", None, "n c h w -> w c n h"),
        ("C(HW)", 12, "n c h w -> (n c) (h w)"),
        ("C(WH)", 12, "n c h w -> (n c) (w h)"),
        ("(WH)CN", 12, "n c h w -> (w h) c n"),
    ],
)
def test_layouts_are_what_einops_reads(layout, height, pattern):
    stack = np.stack([cube()])
    np.testing.assert_array_equal(ArrayLayout(layout, height).arrange(rearrange(stack, pattern)), stack)


def test_the_layout_without_a_name_is_channels_first():
    np.testing.assert_array_equal(ArrayLayout().arrange(cube())[0], cube())
    assert ArrayLayout().arrange(np.zeros((7, 5, 4, 3))).shape == (7, 5, 4, 3)
    with pytest.raises(BadSignalError, match="an array of 2 axes; layout CHW has 3"):
        ArrayLayout().arrange(np.zeros((4, 3)))
    with pytest.raises(BadSignalError, match="10 pixels are not a multiple of the height 4"):
        ArrayLayout("C(WH)", 4).arrange(np.zeros((3, 10)))


@pytest.mark.parametrize("layout", ["HW", "HWCC", "C(HC)", "chw", "C(WH", "CHWNX"])
def test_invalid_layouts(layout):
    with pytest.raises(CallError, match=r"expected C, H, W and optionally N once each|layout"):
        ArrayLayout(layout)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.int32])
def test_integers_map_by_the_full_range_of_their_type(tmp_path, dtype):
    info = np.iinfo(dtype)
    values = np.array([info.min, 0, info.max, 7], dtype).reshape(1, 2, 2)
    source = open_source(f"npy:{saved(tmp_path / 'a.npy', values)}")
    assert source.value_range == (info.min, info.max, f"full range of {np.dtype(dtype).name}")
    expected = (values.astype(np.float64) - info.min) / (float(info.max) - info.min) - 0.5
    (loaded,) = load_all(source)
    assert loaded.dtype == np.float32
    np.testing.assert_allclose(loaded, expected, atol=1e-7)
    assert (loaded.min(), loaded.max()) == (-0.5, 0.5)


def test_a_given_range_clips(tmp_path):
    path = saved(tmp_path / "a.npy", np.array([[[-5.0, 0.0, 5.0, 10.0, 20.0]]], np.float32))
    (loaded,) = load_all(open_source(f"npy:{path}?range=0,10"))
    np.testing.assert_allclose(loaded[0, 0], [-0.5, -0.5, 0, 0.5, 0.5])


def test_floats_are_measured_over_all_files_and_the_range_is_recorded(tmp_path):
    for number, peak in enumerate((1.0, 4.0)):
        saved(tmp_path / f"set/{number}.npy", peak * cube(number).astype(np.float32) / 999)
    source = open_source(f"npy:{tmp_path / 'set'}")
    low, high, origin = source.value_range
    assert (low, origin) == (0.0, "measured")
    assert 3.9 < high <= 4.0
    manifest = prepare(source, bands_codec(), tmp_path / "out", PrepareConfig(workers=0))
    assert manifest.preprocessing["range"] == [low, high]
    assert manifest.preprocessing["range_origin"] == "measured"
    flat = saved(tmp_path / "flat.npy", np.ones((1, 4, 4)))
    with pytest.raises(JobError, match=r"all values of flat.npy are equal, so they define no range"):
        _ = open_source(f"npy:{flat}").value_range


def test_integers_of_several_types_need_a_range(tmp_path):
    for dtype in (np.uint8, np.uint16):
        saved(tmp_path / f"set/{np.dtype(dtype)}.npy", cube(dtype=dtype))
    with pytest.raises(CallError, match=r"arrays of uint16 and uint8 in set have different ranges; give \?range"):
        open_source(f"npy:{tmp_path / 'set'}").preparation(multiple=1)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 8), st.integers(1, 10))
def test_patches_cover_the_grid(tmp_path_factory, height, width, side, hop):
    folder = tmp_path_factory.mktemp("patches")
    values = cube(channels=2, height=height, width=width)
    path = saved(folder / "a.npy", values)
    if side > min(height, width):
        with pytest.raises(CallError, match=f"smaller than a patch of {side}"):
            open_source(f"npy:{path}?patch={side}&hop={hop}")
        return
    source = open_source(f"npy:{path}?patch={side}&hop={hop}&range=0,1000")
    windows = np.lib.stride_tricks.sliding_window_view(values, (side, side), axis=(1, 2))[:, ::hop, ::hop]
    expected = rearrange(windows, "c i j y x -> (i j) c y x")
    np.testing.assert_allclose(load_all(source), expected / 1000 - 0.5, atol=1e-6)
    assert len(set(source.listing.splits["train"].keys)) == len(expected)


def test_pixels_that_are_in_no_sample_are_reported(tmp_path):
    saved(tmp_path / "a" / "a.npy", cube(height=12, width=19))
    saved(tmp_path / "a" / "b.npy", cube(height=16, width=16))

    def notes(options):
        source = open_source(f"npy:{tmp_path / 'a'}{options}")
        return plan_job(source, bands_codec(), PrepareConfig(workers=0)).notes[1:]

    (patches,) = notes("?patch=8")
    assert patches == (
        "1 arrays are no whole number of patches of 8 pixels: 20.7% of all pixels, at the right and bottom, are in no "
        "patch; choose ?patch and ?hop that divide their sides"
    )
    assert notes("?patch=10&hop=5")[0].startswith("2 arrays are no whole number of patches of 10 pixels: ")
    (whole,) = notes("")
    assert whole.startswith("2 of 2 arrays or patches are larger than 12×16 pixels, the size of the first as a multip")
    assert "and are cut to it: 20.7% of the pixels are dropped; ?patch=SIDE" in whole
    saved(tmp_path / "a" / "a.npy", cube(height=16, width=16))
    assert notes("?patch=8") == notes("") == ()


def test_overlapping_patches_stay_in_one_split(tmp_path):
    saved(tmp_path / "set/a.npy", np.stack([cube(0), cube(1)]))
    saved(tmp_path / "set/b.npy", cube(2))
    source = holdout(open_source(f"npy:{tmp_path / 'set'}?patch=8&hop=4"), 0.34)
    sides = {
        split: {source.key(split, index).partition("@")[0] for index in range(source.num_samples(split))}
        for split in ("train", "test")
    }
    assert len(sides["test"]) == 1
    assert sides["train"] | sides["test"] == {"a.npy#00000", "a.npy#00001", "b.npy"}
    assert not sides["train"] & sides["test"]
    one = open_source(f"npy:{tmp_path / 'set/b.npy'}?patch=8&hop=4")
    with pytest.raises(CallError, match="of 1 groups of samples that belong together leaves one side empty"):
        holdout(one, 0.5)
    assert holdout(open_source(f"npy:{tmp_path / 'set/b.npy'}?patch=4"), 0.5).num_samples("test") == 6


def test_class_folders_and_splits(tmp_path):
    for split in ("train", "test"):
        for label in ("field", "water"):
            saved(tmp_path / f"cubes/{split}/{label}/0.npy", cube())
    (tmp_path / "cubes/train/notes.txt").write_text("-")
    source = open_source(f"npy:{tmp_path / 'cubes'}")
    assert source.split_names == ["train", "test"]
    assert source.class_names == ["field", "water"]
    assert [source.label("test", index) for index in (0, 1)] == [0, 1]
    assert [stray.reason for stray in source.strays] == ["not an npy array file name"]


def test_mat_files(tmp_path):
    values = cube()
    path = tmp_path / "scene.mat"
    savemat(path, {"Y": rearrange(values, "c h w -> c (w h)"), "nRow": 12, "name": "scene"})
    options = "layout=C(WH)&height=12&range=0,1000"
    for name in ("", "&variable=Y"):
        (loaded,) = load_all(open_source(f"mat:{path}?{options}{name}"))
        np.testing.assert_allclose(loaded, values / 1000 - 0.5, atol=1e-6)
    with pytest.raises(CallError, match=r"no variable 'Z'; the file has Y, nRow, name"):
        open_source(f"mat:{path}?{options}&variable=Z")
    savemat(path, {"Y": values, "A": values}, do_compression=True)
    with pytest.raises(CallError, match=r"2 arrays \(Y, A\); choose one with \?variable=NAME"):
        open_source(f"mat:{path}")


def test_invalid_files(tmp_path):
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.save(tmp_path / "complex.npy", np.zeros((1, 2, 2), complex))
    np.save(tmp_path / "empty.npy", np.zeros((1, 0, 2)))
    whole = saved(tmp_path / "whole.npy", cube()).read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:300])
    (tmp_path / "text.npy").write_bytes(b"hello")
    (tmp_path / "hdf.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n")
    (tmp_path / "text.mat").write_bytes(b"hello" * 100)
    cases = {
        "npy:pickle.npy": "cannot be decoded",
        "npy:text.npy": "neither a .npy file nor, by its name, a .mat file",
        "npy:complex.npy": "values of type complex128; expected integers or real floats",
        "npy:empty.npy": "without values",
        "npy:cut.npy": "cannot be decoded",
        "mat:hdf.mat": "a MATLAB 7.3 (HDF5) file; save it with MATLAB's -v7, or as .npy",
        "mat:text.mat": "cannot be decoded",
    }
    for name, expected in cases.items():
        scheme, _, file = name.partition(":")
        with pytest.raises(CallError) as caught:
            open_source(f"{scheme}:{tmp_path / file}")
        assert expected in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("patch=0", "patch='0'; expected an integer of at least 1"),
        ("patch=x", "expected an integer of at least 1"),
        ("hop=4", "hop=4 without patch; give both or neither"),
        ("range=5,1", "expected two numbers, the lower first"),
        ("range=1", "expected two numbers"),
        ("range=nan,1", "expected two numbers"),
        ("size=4", "source options 'size=4'; expected some of layout, height, range, patch, hop, splits, each once"),
        ("variable=Y", "expected some of layout"),
        ("patch=4&patch=5", "each once"),
        ("layout=C(WH)", r"it needs ?height=ROWS"),
        ("height=4", "height 4 without a layout that needs it; give one, such as layout=C(WH)"),
    ],
)
def test_wrong_options(tmp_path, options, message):
    path = saved(tmp_path / "a.npy", cube())
    with pytest.raises(CallError) as caught:
        open_source(f"npy:{path}?{options}")
    assert message in str(caught.value)


def test_arrays_that_differ_are_quarantined(tmp_path):
    good = cube().astype(np.float32)
    bad = good.copy()
    bad[0, 0, 0] = np.nan
    for name, values in {"a": good, "b": bad, "c": good[:3], "d": good[:, :4], "e": good}.items():
        saved(tmp_path / f"set/{name}.npy", values)
    (tmp_path / "set/f.npy").write_bytes(b"-")
    manifest = prepare(
        open_source(f"npy:{tmp_path / 'set'}?range=0,1000"), bands_codec(), tmp_path / "out", PrepareConfig(workers=0)
    )
    reasons = manifest.ledger["reasons"]
    assert manifest.splits["train"].num_samples == 2
    assert reasons["values that are not finite"] == 1
    assert reasons["1 arrays of 3 channels, expected 5"] == 1
    assert reasons["4×16 pixels, smaller than 12×16"] == 1
    assert verify(tmp_path / "out", full=True).problems == []


def test_prepared_arrays_are_the_encoded_windows(tmp_path):
    path = saved(tmp_path / "stack.npy", np.stack([cube(seed, height=13, width=18) for seed in range(6)]))
    source = open_source(f"npy:{path}?range=0,1000")
    codec = bands_codec()
    for workers in (0, 1):
        prepare(source, codec, tmp_path / f"out{workers}", PrepareConfig(workers=workers, shard_samples=4))
    dataset = open_latents(tmp_path / "out0")
    codes, _ = dataset.gather(np.arange(6))
    cropped = np.load(path)[:, :, :12, 1:17] / 1000 - 0.5
    expected = torch.cat([codec.encode(torch.tensor(one[None], dtype=torch.float32)) for one in cropped])
    assert torch.equal(codes, expected)
    assert load_manifest(tmp_path / "out0").preprocessing["height"] == 12
    assert [shard.sha256 for shard in load_manifest(tmp_path / "out0").shards] == [
        shard.sha256 for shard in load_manifest(tmp_path / "out1").shards
    ]
    assert sorted(dataset.synthesis_bank) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("layout", "pattern"),
    [("HWC", "c h w -> h w c"), ("C(WH)&height=12", "c h w -> c (w h)"), ("WHC", "c h w -> w h c")],
)
def test_any_layout_gives_the_same_data_set(tmp_path, layout, pattern):
    plain = open_source(f"npy:{saved(tmp_path / 'plain.npy', cube())}?patch=4")
    laid = open_source(f"npy:{saved(tmp_path / 'laid.npy', rearrange(cube(), pattern))}?patch=4&layout={layout}")
    codes = [
        prepare(source, bands_codec(), tmp_path / name, PrepareConfig(workers=0)) and open_latents(tmp_path / name)
        for source, name in ((plain, "a"), (laid, "b"))
    ]
    torch.testing.assert_close(*(latents.gather(range(len(latents)))[0] for latents in codes), rtol=0, atol=0)


def test_wrong_calls(tmp_path):
    source = open_source(f"npy:{saved(tmp_path / 'a.npy', cube())}")
    cases = [
        (bands_codec(3), PrepareConfig(), "the arrays of source a.npy have channels: 5, but codec bands takes"),
        (bands_codec(), PrepareConfig(size=8), "size is 8, but source a.npy is of kind array; only image files"),
        (bands_codec(), PrepareConfig(segment_s=1.0), "segment_s is 1.0, but source a.npy is of kind array"),
        (bands_codec(factor=16), PrepareConfig(), "arrays of 12×16 pixels, smaller than the codec's stride 16"),
    ]
    for codec, config, message in cases:
        with pytest.raises(CallError) as caught:
            prepare(source, codec, tmp_path / "out", config)
        assert message in str(caught.value)
        assert not (tmp_path / "out").exists()


def test_preview_in_false_color(tmp_path):
    path = saved(tmp_path / "stack.npy", np.stack([cube(seed) for seed in range(3)]))
    source = open_source(f"npy:{path}?range=0,1000")
    prepare(source, bands_codec(), tmp_path / "out", PrepareConfig(workers=0))
    alone, pairs = contact_sheet(tmp_path / "out"), contact_sheet(tmp_path / "out", source=source)
    assert pairs.width > alone.width
    assert len(np.unique(np.asarray(alone).reshape(-1, 3), axis=0)) > 100
    with pytest.raises(CallError, match=r"is read with range\[?.*but .* was made with"):
        contact_sheet(tmp_path / "out", source=open_source(f"npy:{path}?range=0,900"))


def test_a_window_beyond_a_file_that_has_shrunk(tmp_path):
    path = saved(tmp_path / "a.npy", cube())
    preparation = ArrayPreparation(5, 8, 8, 0, 1)
    with pytest.raises(BadSignalError, match="12×16 pixels, fewer than when they were listed"):
        preparation.load(ArrayWindow(path, 0, (8, 0, 8, 8)))
