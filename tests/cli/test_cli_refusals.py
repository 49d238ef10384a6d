"""Invalid calls print one line with the value, what was expected and the remedy to standard error; exit code 2."""

import pytest

RECIPE = ("--epochs", 1, "--batch-size", 8)


def test_missing_source_folder(refused, tmp_path):
    missing = tmp_path / "nowhere"
    text = refused("prepare", f"imagefolder:{missing}", "--codec", "rgb-16x", "--out", tmp_path / "out")
    assert f"'{missing}' does not exist; give the path of a folder of images" in text
    assert not (tmp_path / "out").exists()


def test_folder_without_images(refused, foreign, tmp_path):
    text = refused("prepare", foreign, "--codec", "rgb-16x", "--out", tmp_path / "out")
    assert f"no image in '{foreign}'" in text
    assert "chapter.txt" in text
    assert "expected PATH/CLASS/IMAGE" in text
    assert not (tmp_path / "out").exists()


def test_empty_folder(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "is empty; expected PATH/CLASS/IMAGE" in refused(
        "codec", "eval", "--codec", "rgb-16x", "--images", tmp_path / "empty"
    )


def test_unknown_codec(refused, source, tmp_path):
    text = refused("prepare", source, "--codec", "rgb16x", "--out", tmp_path / "out")
    assert "unknown codec 'rgb16x'; nearest: rgb-16x" in text
    assert "`cdl codec list` shows all" in text


def test_unknown_model(refused, source, latents, tmp_path):
    for call in (("train", latents), ("compare", source)):
        text = refused(*call, "--model", "resnt18", "--out", tmp_path / "out")
        assert "unknown model 'resnt18'; nearest: resnet18" in text
        assert "shows all" in text
    assert not (tmp_path / "out").exists()


def test_evaluating_on_a_data_set_of_another_codec(refused, trained, prepared):
    other = prepared("resize-rgb-16x")
    text = refused("evaluate", trained, other)
    assert "the classifier test_resnet has codec_id '" in text
    assert f"but the data set {other} has '" in text
    assert "use the codec that made the data" in text


def test_preparing_into_a_data_set_of_another_codec(refused, source, latents):
    before = (latents / "manifest.json").read_bytes()
    text = refused("prepare", source, "--codec", "rgb-4x", "--size", 64, "--out", latents)
    assert "holds a finished data set with codec" in text
    assert "give another folder, or --restart" in text
    assert (latents / "manifest.json").read_bytes() == before


def test_preparing_color_images_with_a_codec_for_gray(refused, source, tmp_path):
    text = refused("prepare", source, "--codec", "gray-16x", "--size", 64, "--out", tmp_path / "out")
    assert "are in color (channels: 3), but codec gray-16x takes channels: 1; use" in text


@pytest.mark.parametrize("command", ["inspect", "verify", "preview", "train"])
def test_folder_that_is_no_data_set(refused, foreign, tmp_path, command):
    options = ("--model", "test_resnet", "--out", tmp_path / "out") if command == "train" else ()
    text = refused(command, foreign, *options)
    assert f"{foreign} is not a data set (it has no manifest.json); make one with `cdl prepare" in text


def test_folder_without_a_run(refused, foreign, latents):
    assert "is not a run" in refused("evaluate", foreign, latents)


def test_folder_without_a_comparison(refused, foreign):
    assert f"{foreign} has no results.json; name the --out folder of a finished `cdl compare`" in refused(
        "report", foreign
    )


@pytest.mark.parametrize("command", ["prepare", "compare"])
def test_size_that_the_stride_does_not_divide(refused, source, tmp_path, command):
    options = ("--codec", "rgb-16x") if command == "prepare" else ("--conditions", "pixels-25,latents-16x")
    text = refused(command, source, *options, "--size", 100, "--out", tmp_path / "out")
    assert "100 is not a multiple of the stride 8 of codec rgb-16x; nearest that are: 96, 104" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["prepare", "train", "compare", "codec fit"])
def test_output_folder_with_other_files(refused, source, latents, foreign, command):
    call = {
        "prepare": ("prepare", source, "--codec", "rgb-16x", "--size", 64),
        "train": ("train", latents, "--model", "test_resnet"),
        "compare": ("compare", source, "--model", "test_resnet", "--size", 64, "--conditions", "latents-16x"),
        "codec fit": ("codec", "fit", source),
    }[command]
    text = refused(*call, "--out", foreign)
    assert str(foreign) in text
    assert "new" in text.rpartition(";")[2]  # the remedy: a new folder
    assert [path.name for path in foreign.iterdir()] == ["chapter.txt"]


def test_unknown_option_and_command(refused):
    assert "No such option: --cdoec" in refused("prepare", "photos", "--cdoec", "rgb-16x")
    assert "`cdl prepare --help` shows the options" in refused("prepare", "photos", "--cdoec", "rgb-16x")
    assert "No such command 'prepar'" in refused("prepar")


def test_missing_argument_and_option(refused):
    assert "Missing argument 'SOURCE'" in refused("prepare", "--codec", "rgb-16x", "--out", "out")
    assert "Missing option '--codec'" in refused("prepare", "photos", "--out", "out")


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ("pixels-16,voxels-3", "condition 'voxels-3' is invalid; expected full, pixels-64"),
        ("pixels-17", "a side of 17 pixels does not divide --size 64"),
        ("pixels-16,latents-17x", "unknown codec 'rgb-17x'; nearest: rgb-16x"),
        ("pixels-16,pixels-16", "contain duplicates; give each once"),
        (",", "no conditions; give at least one, such as pixels-64,latents-16x"),
    ],
)
def test_conditions(refused, source, tmp_path, conditions, expected):
    call = ("compare", source, "--model", "test_resnet", "--size", 64, "--out", tmp_path / "out")
    assert expected in refused(*call, "--conditions", conditions)
    assert not (tmp_path / "out").exists()


def test_an_unknown_augmentation(refused, source, tmp_path):
    text = refused("compare", source, "--model", "test_resnet", "--augment", "lihgt", "--out", tmp_path / "out")
    assert "unknown augmentation 'lihgt'; nearest: light; choose one of none, light, timm" in text
    assert not (tmp_path / "out").exists()


def test_no_seeds(refused, source, tmp_path):
    text = refused("compare", source, "--model", "test_resnet", "--seeds", 0, "--out", tmp_path / "out")
    assert "num_seeds is 0; it must be at least 1" in text


def test_a_model_without_the_stem_is_refused_before_any_training(cdl, source, tmp_path):
    answer = cdl(
        *("compare", source, "--model", "test_efficientnet", "--size", 64, "--out", tmp_path / "out"),
        *("--conditions", "pixels-16,latents-16x:channels", "--workers", 0),
    )
    assert answer.code == 2
    assert "test_efficientnet has no `channels` stem" in answer.err.splitlines()[-1]
    assert not (tmp_path / "out" / "runs").exists()


def test_unknown_split(refused, latents, trained):
    for call in (("evaluate", trained, latents), ("preview", latents)):
        text = refused(*call, "--split", "tset")
        assert "'tset'" in text
        assert "test, train" in text


@pytest.mark.parametrize("command", ["prepare", "train", "codec list"])
def test_json_in_a_missing_folder_is_refused_before_any_work(refused, source, latents, tmp_path, command):
    out, path = tmp_path / "out", tmp_path / "nowhere" / "report.json"
    call = {
        "prepare": ("prepare", source, "--codec", "rgb-16x", "--size", 64, "--out", out),
        "train": ("train", latents, "--model", "test_resnet", "--out", out, *RECIPE),
        "codec list": ("codec", "list"),
    }[command]
    text = refused(*call, "--json", path)
    assert f"{path} cannot be written: there is no folder {path.parent}; create it first" in text
    assert not out.exists()


def test_json_path_that_is_a_folder(refused, tmp_path):
    assert f"{tmp_path} is a folder; name a file to write" in refused("codec", "list", "--json", tmp_path)


def test_pictures_that_cannot_be_written(refused, latents, tmp_path):
    for name in ("sheet.docx", "sheet.psd", "sheet"):  # PIL can read .psd files, but not write them
        text = refused("preview", latents, "--out", tmp_path / name)
        assert "has no file extension of an image format; use one such as .png or .jpg" in text
    assert "there is no folder" in refused("preview", latents, "--out", tmp_path / "nowhere" / "sheet.png")


@pytest.mark.parametrize(
    "call",
    [
        ("codec", "fit", "photos", "--out", "codec", "--reduction", 0),
        ("codec", "fit", "photos", "--out", "codec", "--levels", 13),
        ("bench", "load", "--megabytes", 0),
        ("bench", "load", "--repeats", 0),
        ("bench", "encode", "--seconds", 0),
        ("bench", "train", "--steps", 0),
        ("preview", "latents", "--num", 0),
    ],
    ids=lambda call: call[-2],
)
def test_numbers_out_of_range(refused, call):
    assert f"Invalid value for '{call[-2]}'" in refused(*call)


@pytest.mark.parametrize("benchmark", ["encode", "load", "prepare", "train"])
def test_unknown_peers(refused, benchmark):
    text = refused("bench", benchmark, "--against", "torch,fcv")
    assert "unknown peer" in text
    assert "choose among " in text


@pytest.mark.parametrize("options", [(), ("--audio",)], ids=["images", "sound"])
def test_absent_devices(refused, monkeypatch, options):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    text = refused("bench", "encode", "--device", "cuda", *options)
    assert "device 'cuda' was requested, but torch finds no CUDA device; use cpu" in text


@pytest.mark.parametrize("share", ["nan", "0", "1", "-0.5", "inf"])
def test_invalid_holdout_fractions(refused, source, tmp_path, share):
    loose = source / "train"
    text = refused("prepare", loose, "--codec", "rgb-16x", "--size", 64, "--out", tmp_path / "out", "--holdout", share)
    assert (
        f"holding out {float(share):g} of split 'train'; expected a fraction above 0 and below 1, such as 0.2" in text
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--gain", "nan", "a gain of nan; it must be a number above 0"),
        ("--gain", "inf", "a gain of inf; it must be a number above 0"),
        ("--slope", "nan", "a slope of nan dB per bit and pixel"),
        ("--fraction", "nan", "a fraction of nan of the samples"),
        ("--reduction", "7", "expected a whole number of at least 1; try a reduction of 6, 8 or 12"),
    ],
)
def test_fit_settings(refused, source, tmp_path, option, value, expected):
    assert expected in refused("codec", "fit", source, "--out", tmp_path / "out", option, value)
    assert not (tmp_path / "out").exists()


def test_training_settings(refused, latents, tmp_path):
    call = ("train", latents, "--model", "test_resnet", "--out", tmp_path / "out")
    assert "epochs is 0; it must be at least 1" in refused(*call, "--epochs", 0)
    assert "unknown precision 'fp8'" in refused(*call, "--precision", "fp8")
    assert "unknown stem 'channel'; nearest: channels" in refused(*call, "--stem", "channel")
    assert "a grid of 33 pixels does not go with" in refused(*call, "--grid", 33)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "command",
    ["train", "compare", "demo", "merge", "split", "codec fit", "codec import", "codec encode", "codec decode"],
)
def test_addresses_for_commands_that_write_local_folders_only(refused, source, latents, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    call = {
        "train": ("train", latents, "--model", "test_resnet"),
        "compare": ("compare", source, "--model", "test_resnet"),
        "demo": ("demo",),
        "merge": ("merge", latents, latents),
        "split": ("split", latents, "--only", "train"),
        "codec fit": ("codec", "fit", source),
        "codec import": ("codec", "import", tmp_path / "a.pth"),
        "codec encode": ("codec", "encode", source, "--codec", "rgb-16x"),
        "codec decode": ("codec", "decode", source),
    }[command]
    text = refused(*call, "--out", "s3://bucket/x")
    assert "s3:/bucket/x looks like an address; only `cdl prepare` can write to addresses; give a folder" in text
    assert not list(tmp_path.iterdir())


def test_bench_encode_refuses_audio_with_codec(refused):
    text = refused("bench", "encode", "--audio", "--codec", "rgb-16x")
    assert "--audio cannot be combined with --codec, which determines the kind of signal; omit --audio" in text
