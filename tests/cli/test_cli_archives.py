"""Commands on archives, and pictures of codecs."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.support.trees import all_files
from walloc_cdl.cli.command_tree import build_command_tree
from walloc_cdl.latents.archive import default_container


def test_a_file_to_an_archive_and_back(cdl, source, tmp_path):
    photo, out = source / "train" / "cat" / "00.png", tmp_path / "a.webp"
    answer = cdl("codec", "encode", photo, "-o", out, "--codec", "rgb-4x", "--json", tmp_path / "a.json")
    assert answer.code == 0
    figures = json.loads((tmp_path / "a.json").read_text())
    with Image.open(photo) as image:
        num_pixels, size = image.width * image.height, image.size
    assert figures["codec"] == "rgb-4x"
    assert (figures["num_written"], figures["num_samples"]) == (1, num_pixels)
    assert figures["bpp"] == pytest.approx(8 * out.stat().st_size / num_pixels)
    assert f"{figures['bpp']:.4g}" in answer.out
    assert cdl("codec", "decode", out, "-o", tmp_path / "b.png").code == 0
    with Image.open(tmp_path / "b.png") as image:
        assert image.size == size


def test_encoding_a_folder_is_resumed_and_names_failed_files(cdl, source, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "good.png").write_bytes((source / "train" / "cat" / "00.png").read_bytes())
    (photos / "bad.png").write_bytes(b"-")
    call = ("codec", "encode", photos, "-o", tmp_path / "out", "--codec", "rgb-16x", "--container", "tiff")
    answer = cdl(*call, "--json", tmp_path / "report.json")
    assert answer.code == 1
    assert answer.err == f"{photos / 'bad.png'}: not an image of a known format\n"
    assert json.loads((tmp_path / "report.json").read_text())["num_failed"] == 1
    (photos / "bad.png").unlink()
    answer = cdl(*call)
    assert (answer.code, "1 existing files" in answer.out) == (0, True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.png.tif"]
    assert cdl("codec", "decode", tmp_path / "out", "-o", tmp_path / "back").code == 0
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["good.png.png"]


def test_wrong_calls_of_encode_and_decode(refused, source, tmp_path):
    photo = source / "train" / "cat" / "00.png"
    text = refused("codec", "encode", photo, "-o", tmp_path / "a.doc", "--codec", "rgb-16x")
    assert "a.doc does not end in the suffix of an archive format; end its name in one of .png, .webp, .tif" in text
    text = refused("codec", "encode", source, "-o", tmp_path / "out", "--codec", "rgb-16x", "--container", "gif")
    assert "unknown container 'gif'" in text
    assert "a PNG of bit depth 8 and color type 2" in refused(
        "codec", "decode", photo, "-o", tmp_path / "b.png", code=1
    )
    assert not list(tmp_path.iterdir())


def test_a_data_set_to_archives_and_back(cdl, latents, tmp_path):
    answer = cdl("export", latents, "--archive", "-o", tmp_path / "archives", "--json", tmp_path / "report.json")
    assert answer.code == 0
    figures = json.loads((tmp_path / "report.json").read_text())
    assert figures["container"] == default_container("image").name
    archives = [path for path in (tmp_path / "archives").rglob("*") if path.suffix == f".{figures['container']}"]
    assert figures["num_samples"] == len(archives) == 24
    assert figures["archive_bytes"] == sum(path.stat().st_size for path in archives)
    answer = cdl("prepare", tmp_path / "archives", "--archive", "--out", f"file://{tmp_path}/back", "--seed", 0)
    assert answer.code == 0
    assert "16 samples: cat 8, dog 8" in answer.out
    assert all_files(tmp_path / "back") == all_files(latents)
    assert cdl("verify", tmp_path / "back", "--full").code == 0


def test_a_split_to_numpy(cdl, latents, tmp_path):
    call = ("export", latents, "--to", "npy", "--split", "test", "-o", tmp_path / "npy", "--json", tmp_path / "a.json")
    answer = cdl(*call)
    assert answer.code == 0
    assert "8 samples" in answer.out
    figures = json.loads((tmp_path / "a.json").read_text())
    assert figures["num_samples"] == {"test": 8}
    files = [path for path in (tmp_path / "npy").rglob("*") if path.is_file() and path.name != "walloc-cdl.json"]
    assert figures["num_files"] == len(files)
    assert figures["num_bytes"] == sum(path.stat().st_size for path in files)


def test_wrong_calls_of_export_and_prepare(refused, latents, source, tmp_path):
    text = refused("export", latents, "-o", tmp_path / "out")
    assert "give either --to hf, parquet, webdataset or npy, or --archive" in text
    assert "is not a data set" in refused("export", source, "--archive", "-o", tmp_path / "out")
    both = refused("export", latents, "--to", "npy", "--archive", "-o", tmp_path / "out")
    assert "give either --to hf, parquet, webdataset or npy, or --archive" in both
    assert "unknown export format 'pq'" in refused("export", latents, "--to", "pq", "-o", tmp_path / "out")
    text = refused("export", latents, "--archive", "--split", "test", "-o", tmp_path / "out")
    assert "--split test cannot be combined with --archive" in text
    text = refused("export", latents, "--to", "npy", "--container", "png", "-o", tmp_path / "out")
    assert "--container png cannot be combined with --to npy" in text
    assert "is not a folder of archives" in refused("prepare", latents, "--archive", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


OPTIONS_OF_PREPARE = {
    option: parameter
    for parameter in build_command_tree(pytest.fail).commands["prepare"].params
    for option in parameter.opts
    if option not in ("source", "--out", "--archive", "--json")
}
ODD_VALUES = {"--max-bad": "1%", "--shards": "1/2"}


@pytest.mark.parametrize("option", OPTIONS_OF_PREPARE)
def test_options_of_encoding_are_refused_for_archives(refused, tmp_path, option):
    """Every option is tested, so that new ones are covered, too."""
    given = [option] if OPTIONS_OF_PREPARE[option].is_flag else [option, ODD_VALUES.get(option, "2")]
    text = refused("prepare", tmp_path, "--archive", "--out", tmp_path / "out", *given)
    wanted = f"--archive restores the data set as it was, and does not accept {' '.join(given)}"
    assert text.startswith(f"cdl: {wanted}")
    assert text.endswith("; omit one of them")
    assert not (tmp_path / "out").exists()


def test_eval_of_small_images_and_of_a_lossless_codec(cdl, tmp_path):
    (tmp_path / "tiny").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "tiny" / "a.png")
    call = ("codec", "eval", "--images", tmp_path / "tiny", "--json", tmp_path / "eval.json", "--container", "png")
    answer = cdl(*call, "--codec", "resize-rgb-1x")
    assert answer.code == 0
    figures = json.loads((tmp_path / "eval.json").read_text())
    assert (figures["psnr_db"], figures["ssim"], figures["container"]) == (None, None, "png")
    assert figures["bpp"] > 0 < figures["compression_ratio"]
    lines = dict(line.split(maxsplit=1) for line in answer.out.splitlines())
    assert lines["psnr_db"] == "infinite"
    assert lines["ssim"] == "not measured (no image of at least 11 × 11 pixels)"
    assert lines["lpips"].startswith("not measured")


def test_inspect(cdl, refused, source, tmp_path):
    answer = cdl("codec", "inspect", "--codec", "rgb-16x", "--out", tmp_path / "codec.png")
    assert answer.code == 0
    with Image.open(tmp_path / "codec.png") as image:
        assert answer.out == f"{tmp_path / 'codec.png'}: {image.width}x{image.height}\n"
    assert "use one such as .png" in refused("codec", "inspect", "--codec", "rgb-16x", "--out", tmp_path / "codec.doc")


def test_bench_archive(cdl, source, tmp_path):
    call = ("bench", "archive", "--images", source / "test", "--codecs", "gray-16x", "--json", tmp_path / "bench.json")
    answer = cdl(*call)
    assert answer.code == 0
    rows = json.loads((tmp_path / "bench.json").read_text())
    assert {row["codes"] for row in rows} == {"gray-16x", "audio-like"}
    assert {"png", "webp", "tiff"} <= {row["container"] for row in rows}
    assert answer.out.count("\n") == len(rows) + 1
