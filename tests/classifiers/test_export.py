"""Classifiers as ONNX and as exported programs: equal to the model, for a batch of any size."""

import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import classifiers
from classifiers.export.codes_graph import CodesToInput, RowsToCodes
from classifiers.export.pixels_graph import pixels_to_codes
from classifiers.export.write_graph import export_run
from datasets_prep import PrepareConfig, prepare
from tests.support.pictures import picture
from walloc_cdl.codec import load_codec
from walloc_cdl.data import LatentLoader, open_latents
from walloc_cdl.errors import CallError, JobError


@dataclass
class Trained:
    data: Path
    run: Path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for split, count in (("train", 12), ("test", 5)):
        for number in range(count):
            folder = root / split / ("cat", "dog")[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            picture(len(split) * 100 + number, 64, 64).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    root, made = tmp_path_factory.mktemp("trained"), {}

    def run_of(codec: str) -> Trained:
        if codec not in made:
            from datasets_prep.sources import open_source

            data = root / codec
            prepare(open_source(str(photos)), load_codec(codec), data, PrepareConfig(size=64, workers=0))
            dataset = open_latents(data, "train")
            classifiers.train(
                lambda: classifiers.create_model("test_resnet", dataset),
                dataset,
                None,
                classifiers.TrainConfig(epochs=1, batch_size=4),
                root / f"{codec}-run",
            )
            made[codec] = Trained(data, root / f"{codec}-run")
        return made[codec]

    return run_of


def stored(trained: Trained, as_rows: bool):
    dataset = open_latents(trained.data, "test")
    batch, _ = next(iter(LatentLoader(dataset, 5, shuffle=False, drop_last=False, unpack=not as_rows)))
    return batch, classifiers.predict(classifiers.load_classifier(trained.run), dataset).logits


def run_onnx(path: Path, inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {session.get_inputs()[0].name: inputs})[0]


@pytest.mark.parametrize(
    ("codec", "origin"), [("rgb", "rows"), pytest.param("rgb-16x", "codes", marks=pytest.mark.slow)]
)
def test_onnx_of_stored_latents_equals_the_model(trained, tmp_path, codec, origin):
    path, run = tmp_path / "model.onnx", trained(codec)
    report = classifiers.export_run(run.run, path, "onnx", origin=origin)
    batch, expected = stored(run, origin == "rows")
    assert report.num_bytes == path.stat().st_size
    assert report.input_shape == tuple(batch.shape[1:])
    assert report.max_difference < 1e-4
    for count in (1, 5):
        np.testing.assert_allclose(run_onnx(path, batch[:count].numpy()), expected[:count], atol=1e-5)


@pytest.mark.slow
def test_the_onnx_file_says_what_it_is(trained, tmp_path):
    path, run = tmp_path / "model.onnx", trained("rgb-16x")
    export_run(run.run, path, "onnx", opset=20)
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    assert [each.version for each in proto.opset_import if each.domain == ""] == [20]
    (given,), (result,) = proto.graph.input, proto.graph.output
    assert (given.name, given.type.tensor_type.elem_type) == ("codes", onnx.TensorProto.UINT8)
    dimensions = given.type.tensor_type.shape.dim
    assert dimensions[0].dim_param
    assert [each.dim_value for each in dimensions[1:]] == [12, 8, 8]
    assert result.name == "logits"
    about = {each.key.removeprefix("walloc_cdl."): each.value for each in proto.metadata_props}
    assert json.loads(about["names"]) == ["cat", "dog"]
    assert json.loads(about["preprocessing"])["size"] == 64
    assert about["codec_id"] == open_latents(run.data).spec.codec_id


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["rgb", "rgb-16x", "resize-rgb-16x"])
def test_from_pixels_the_encoder_is_in_the_graph(photos, trained, tmp_path, codec):
    path, run = tmp_path / "model.onnx", trained(codec)
    report = export_run(run.run, path, "onnx", origin="pixels")
    assert report.input_shape == (3, 64, 64)
    _, expected = stored(run, False)
    files = sorted((photos / "test").rglob("*.png"))
    from PIL import Image

    pixels = np.stack([np.asarray(Image.open(file)).transpose(2, 0, 1) for file in files])
    np.testing.assert_allclose(run_onnx(path, pixels), expected, atol=0.02)  # single codes may differ by a level


@pytest.mark.parametrize("codec", ["rgb", "rgb-16x", "rgb-4x", "gray", "resize-rgb-16x", "resize-gray-4x"])
@pytest.mark.parametrize("size", [(32, 96)])
def test_the_encoder_as_a_graph_gives_the_stored_codes(codec, size):
    loaded = load_codec(codec)
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (4, loaded.source_channels, *size), np.uint8))
    with torch.no_grad():
        codes = pixels_to_codes(loaded, size)(pixels)
    expected = loaded.encode(pixels).long()
    assert codes.shape == expected.shape
    assert (codes - expected).abs().max() <= 1
    assert (codes != expected).float().mean() < 2e-3


def test_fewer_planes_are_those_of_the_prefix():
    codec = load_codec("rgb").with_planes(20)
    pixels = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, 3, 64, 64), np.uint8))
    with torch.no_grad():
        codes = pixels_to_codes(codec, (64, 64))(pixels)
    assert (codes != codec.encode(pixels).long()).float().mean() < 2e-3
    rows = codec.encode_rows(pixels)
    unpacked = RowsToCodes(codec.planes, (8, 8))(rows)
    torch.testing.assert_close(unpacked, codec.encode(pixels).long())


def test_the_lookup_is_that_of_the_model_input(rgb16):
    model = classifiers.create_model("test_resnet", rgb16)
    codes = rgb16[[0, 1]].codes
    torch.testing.assert_close(CodesToInput(model.input.table, 2)(codes), model.input(codes), rtol=0, atol=0)


def test_a_program_of_torch_equals_the_model(trained, tmp_path):
    path, run = tmp_path / "model.pt2", trained("rgb")
    report = export_run(run.run, path, "torch", origin="rows")
    assert report.opset is None
    batch, expected = stored(run, True)
    about = {"walloc_cdl.json": ""}
    module = torch.export.load(io.BytesIO(path.read_bytes()), extra_files=about).module()
    for count in (1, 5):
        with torch.no_grad():
            np.testing.assert_allclose(module(batch[:count]).numpy(), expected[:count], atol=1e-5)
    assert json.loads(json.loads(about["walloc_cdl.json"])["names"]) == ["cat", "dog"]


def test_wrong_calls(trained, tmp_path):
    run = trained("rgb-16x").run
    with pytest.raises(CallError, match=r"unknown format 'onxn'; nearest: onnx; choose onnx or torch"):
        export_run(run, tmp_path / "m.onnx", "onxn")
    with pytest.raises(CallError, match=r"unknown input 'pixel'; nearest: pixels; choose from codes, rows, pixels"):
        export_run(run, tmp_path / "m.onnx", "onnx", origin="pixel")
    with pytest.raises(CallError, match=r"m.pt2 for onnx; name a file that ends in .onnx"):
        export_run(run, tmp_path / "m.pt2", "onnx")
    with pytest.raises(CallError, match=r"opset 7; expected 18 to 23"):
        export_run(run, tmp_path / "m.onnx", "onnx", opset=7)
    with pytest.raises(CallError, match=r"opset 18 is for onnx; omit it"):
        export_run(run, tmp_path / "m.pt2", "torch", opset=18)
    with pytest.raises(CallError, match=r"stored as bytes and have no rows; export from codes"):
        export_run(run, tmp_path / "m.onnx", "onnx", origin="rows")
    unfinished = tmp_path / "run"
    shutil.copytree(run, unfinished)
    (unfinished / "record.json").unlink()
    with pytest.raises(CallError, match="is not finished"):
        export_run(unfinished, tmp_path / "m.onnx", "onnx")
    assert not list(tmp_path.glob("m.*"))


def test_a_file_that_differs_from_the_model_is_not_written(trained, tmp_path, monkeypatch):
    run = trained("rgb-16x").run
    monkeypatch.setattr("classifiers.export.write_graph._program", lambda graph, example, description: b"")
    monkeypatch.setattr("classifiers.export.write_graph._run_program", lambda data, example: np.zeros((3, 2)) + 9)
    with pytest.raises(JobError, match="differs from the model by"):
        export_run(run, tmp_path / "m.pt2", "torch")
    assert not (tmp_path / "m.pt2").exists()


def test_encoders_that_cannot_be_exported_are_named():
    with pytest.raises(CallError, match=r"whose encoder cannot be exported; export the classifier from codes"):
        pixels_to_codes(load_codec("mono"), (64, 64))
