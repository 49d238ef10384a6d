"""All commands in sequence, on tiny data."""

import json
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

from walloc_cdl.codec import load_codec
from walloc_cdl.latents import load_manifest, open_shard
from walloc_cdl.latents.archive import archive_to_bytes


def test_codec_list_and_info(cdl, tmp_path):
    answer = cdl("codec", "list", "--json", tmp_path / "list.json")
    rows = {row["name"]: row for row in json.loads((tmp_path / "list.json").read_text())}
    assert {"rgb-16x", "rgb-4x", "gray-16x", "gray-4x"} <= rows.keys()
    assert all(name in answer.out for name in rows)
    assert (rows["rgb-16x"]["latent_channels"], rows["gray-4x"]["reduction"]) == (12, 4)
    answer = cdl("codec", "info", "--codec", "gray-16x", "--json", tmp_path / "info.json")
    assert json.loads((tmp_path / "info.json").read_text())["codec_id"] in answer.out


def test_codec_eval_equals_an_independent_computation(cdl, source, tmp_path):
    folder, report = source / "test" / "cat", tmp_path / "eval.json"
    answer = cdl("codec", "eval", "--codec", "rgb-16x", "--images", folder, "--json", report)
    assert answer.code == 0
    result = json.loads(report.read_text())
    codec, psnrs, rates, raw, stored = load_codec("rgb-16x"), [], [], 0, 0
    for path in sorted(folder.iterdir()):
        image = np.asarray(Image.open(path).convert("RGB"))
        top, left = (image.shape[0] % 8) // 2, (image.shape[1] % 8) // 2
        image = image[top:, left:][: image.shape[0] // 8 * 8, : image.shape[1] // 8 * 8]
        codes = codec.encode(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])
        decoded = codec.decode(codes)[0].permute(1, 2, 0).numpy()
        decoded = np.clip(np.rint((decoded + 0.5) * 255), 0, 255)
        psnrs.append(10 * np.log10(255**2 / np.mean((image - decoded) ** 2)))
        archive = archive_to_bytes(
            codes[0].numpy(),
            codec.spec,
            signal_shape=(3, *image.shape[:2]),
            container=result["container"],
            codec="rgb-16x",
        )
        size = len(archive)
        rates.append(8 * size / (image.shape[0] * image.shape[1]))
        raw, stored = raw + image.size, stored + size
    assert result["num_images"] == len(psnrs) == 4
    assert result["psnr_db"] == pytest.approx(np.mean(psnrs), abs=1e-4)
    assert result["bpp"] == pytest.approx(np.mean(rates))
    assert result["compression_ratio"] == pytest.approx(raw / stored)
    assert 0 < result["ssim"] < 1


def test_images_that_cannot_be_measured_are_counted(cdl, source, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(source / "test" / "dog", folder)
    (folder / "zz.png").write_bytes(b"no picture")
    cdl("codec", "eval", "--codec", "rgb-16x", "--images", folder, "--json", tmp_path / "eval.json")
    result = json.loads((tmp_path / "eval.json").read_text())
    assert (result["num_images"], result["num_skipped"]) == (4, 1)


def test_codec_fit(cdl, source, tmp_path):
    out = tmp_path / "mine"
    call = ("codec", "fit", source, "--size", 64, "--reduction", 16, "--out", out)
    answer = cdl(*call, "--json", tmp_path / "fit.json")
    assert answer.code == 0
    assert all(word in answer.out for word in ("PSNR", "bits per pixel", "kept energy"))
    result = json.loads((tmp_path / "fit.json").read_text())
    assert result["num_signals"] == 16  # the train split alone
    assert 0.9 < result["kept_energy"] <= 1
    codec = load_codec(out)
    assert (codec.name, codec.spec.latent_channels, codec.spec.stride) == ("mine", 12, 8)


def test_prepare_a_flat_folder_with_labels(cdl, source, tmp_path):
    labels = tmp_path / "labels.txt"
    names = sorted(path.name for path in (source / "test" / "cat").iterdir())
    labels.write_text("".join(f"{name} kind{number % 2}\n" for number, name in enumerate(names)))
    command = ("prepare", source / "test" / "cat", "--codec", "rgb-16x", "--size", 32, "--out", tmp_path / "out")
    assert cdl(*command, "--labels", labels, "--json", tmp_path / "made.json").code == 0
    made = json.loads((tmp_path / "made.json").read_text())
    assert made["class_names"] == ["kind0", "kind1"]
    assert sum(made["splits"]["train"]["class_counts"]) == len(names)
    labels.write_text(f"{names[0].rpartition('.')[0]} kind0\n")
    answer = cdl(*command, "--labels", labels, "--restart")
    assert answer.code == 0
    assert f"split train: {len(names) - 1} of its {len(names)} samples have no label" in answer.err
    assert f"kind0 1, {len(names) - 1} without a label" in " ".join(answer.out.split())
    labels.write_text("")
    answer = cdl(*command, "--labels", labels)
    assert answer.code == 2
    assert "names a sample of source cat without a label: it is empty; the samples have names such as" in answer.err


def test_prepare_inspect_verify(cdl, source, tmp_path):
    out, call = tmp_path / "latents", ("prepare", source, "--codec", "rgb-16x", "--size", 64, "--workers", 0)
    answer = cdl(*call, "--out", out, "--json", tmp_path / "prepare.json")
    assert answer.code == 0
    assert "16 samples: cat 8, dog 8" in answer.out
    assert json.loads((tmp_path / "prepare.json").read_text())["latent_shape"] == [12, 8, 8]

    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    again = cdl(*call, "--out", out)
    assert (again.code, again.out) == (0, answer.out)
    assert again.err == f"{out} is already finished; nothing to do\n"
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before

    answer = cdl("inspect", out, "--json", tmp_path / "inspect.json")
    assert answer.code == 0
    assert "12x8x8, 8 bits, companding normal" in answer.out
    assert "channel std (train)" in answer.out
    assert answer.out.index("train ") < answer.out.index("test ")
    assert json.loads((tmp_path / "inspect.json").read_text())["class_names"] == ["cat", "dog"]

    answer = cdl("verify", out, "--full", "--json", tmp_path / "verify.json")
    assert answer.code == 0
    assert f"{out}: intact (" in answer.out
    assert json.loads((tmp_path / "verify.json").read_text())["problems"] == []


def test_worker_states_are_shown_beside_the_bar(cdl, source, tmp_path, monkeypatch):
    """The number of local decoding workers is not shown if another engine does the work."""
    import datasets_prep.cli.prepare
    import datasets_prep.job.run
    from datasets_prep.job.local_engine import LocalEngine

    class Cluster(LocalEngine):
        def encode(self, context, shards):
            context.reporter.worker_status("up to 9 tasks at once")
            monkeypatch.setattr(context.reporter, "worker_status", lambda text: None)
            return super().encode(context, shards)

    shown = []

    @contextmanager
    def progress(*arguments, **options):
        yield lambda done, total, *, num_bytes, details: shown.append((done, details[0]))

    monkeypatch.setattr(datasets_prep.cli.prepare, "progress", progress)
    call = ("prepare", source, "--codec", "rgb-16x", "--size", 64, "--workers", 0)
    for number, (engine, worker_status) in enumerate(
        ((LocalEngine(), "0 workers"), (Cluster(), "up to 9 tasks at once"))
    ):
        shown.clear()
        monkeypatch.setattr(datasets_prep.job.run, "choose_engine", lambda config, engine=engine: engine)
        assert cdl(*call, "--out", tmp_path / str(number)).code == 0
        assert shown[0] == (0, worker_status)
        assert {details for _, details in shown} == {worker_status}


def test_an_interrupted_preparation_is_resumed(cdl, source, tmp_path, monkeypatch):
    import datasets_prep.job.local_engine

    call = ("prepare", source, "--codec", "rgb-16x", "--size", 64, "--workers", 0, "--shard-samples", 4)
    save, saved = datasets_prep.job.local_engine.save_record, []

    def interrupted(*arguments):
        save(*arguments)
        saved.append(arguments)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(datasets_prep.job.local_engine, "save_record", interrupted)
    answer = cdl(*call, "--out", tmp_path / "latents")
    assert answer.code == 130
    assert answer.err.endswith("interrupted; run the same command again to resume\n")
    monkeypatch.undo()
    answer = cdl(*call, "--out", tmp_path / "latents")
    assert answer.code == 0
    assert "resumed: 2 of 6 shards are done\n" in answer.err


def test_preview(cdl, source, latents, tmp_path):
    out = tmp_path / "sheet.png"
    answer = cdl("preview", latents, "--source", source, "--num", 4, "--out", out)
    assert answer.code == 0
    with Image.open(out) as picture:
        picture.load()
        assert answer.out == f"{out}: {picture.width}x{picture.height}\n"
        assert picture.width > 6 * 256  # three pairs per row,
        assert 2 * 256 < picture.height < 3 * 256  # in two rows


def test_splits_without_labels_are_not_evaluated_by_default(cdl, source, tmp_path):
    root, out, run = tmp_path / "photos", tmp_path / "set", tmp_path / "run"
    shutil.copytree(source, root)
    for path in sorted((root / "test").glob("*/*")):
        path.rename(root / "test" / f"{path.parent.name}-{path.name}")
    assert cdl("prepare", root, "--codec", "rgb-16x", "--size", 32, "--workers", 0, "--out", out).code == 0
    answer = cdl("train", out, "--model", "test_resnet", "--out", run, "--epochs", 1, "--batch-size", 8)
    assert answer.code == 0
    assert "no sample of split test has a label; not evaluated" in answer.err


def test_train_and_evaluate(cdl, latents, tmp_path):
    run = tmp_path / "run"
    call = ("train", latents, "--model", "test_resnet", "--out", run, "--epochs", 1, "--batch-size", 8)
    answer = cdl(*call, "--json", tmp_path / "train.json")
    assert answer.code == 0
    record = json.loads((tmp_path / "train.json").read_text())
    assert record["metrics"]["num_samples"] == 8
    assert len(record["history"]) == 1

    again = cdl(*call)
    assert (again.code, again.out) == (0, answer.out)
    assert again.err == f"{run} is trained already; nothing to do\n"

    answer = cdl("evaluate", run, latents, "--json", tmp_path / "evaluate.json")
    assert answer.code == 0
    metrics = json.loads((tmp_path / "evaluate.json").read_text())
    assert metrics == {"split": "test", **record["metrics"]}
    assert "true cat, predicted as" in answer.out
    assert cdl("evaluate", run, latents, "--classes", tmp_path / "classes.csv").code == 0
    assert (tmp_path / "classes.csv").read_text() == (run / "classes.csv").read_text()
    assert (run / "classes.csv").read_text().splitlines()[1].startswith("0,cat,4,")


@pytest.fixture
def truncated(latents, tmp_path):
    folder = tmp_path / "truncated"
    shutil.copytree(latents, folder)
    shard = folder / "train-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-50])
    return folder


def test_a_truncated_shard_is_found_by_verify(cdl, truncated):
    for options in ((), ("--full",)):
        answer = cdl("verify", truncated, *options)
        assert (answer.code, answer.err) == (1, "")
        problem, summary = answer.out.splitlines()
        size = (truncated / "train-00000.safetensors").stat().st_size
        assert problem.startswith(
            f"{truncated / 'train-00000.safetensors'}: {size} bytes, expected {size + 50}; `cdl repair"
        )
        assert summary.startswith(f"{truncated}: damaged (")


def test_verify_writes_all_that_is_damaged_as_json(cdl, latents, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(latents, folder)
    manifest, shard = load_manifest(folder), folder / "train-00000.safetensors"
    data = bytearray(shard.read_bytes())
    content = open_shard(shard, manifest.shards_of("train")[0], manifest.layout)
    keys, codes = content.keys(range(16)), bytes(content.codes[3])
    data[data.index(codes) + 1] ^= 2
    shard.write_bytes(data)
    (folder / "copy/ledger.parquet").unlink()
    assert cdl("verify", folder, "--full", "--json", tmp_path / "verify.json").code == 1
    found = json.loads((tmp_path / "verify.json").read_text())
    assert found["damaged_files"] == ["train-00000.safetensors", "copy/ledger.parquet"]
    assert found["damaged_samples"] == [{"shard": "train-00000.safetensors", "row": 3, "key": keys[3]}]
    assert len(found["problems"]) == 3


def test_a_truncated_shard_ends_training_with_one_line(refused, truncated, tmp_path):
    text = refused("train", truncated, "--model", "test_resnet", "--out", tmp_path / "run", "--epochs", 1, code=1)
    assert "train-00000.safetensors" in text
    assert "restore the folder from a copy or prepare it again" in text


def test_bench_load(cdl, tmp_path):
    report = tmp_path / "bench.json"
    call = ("bench", "load", "--against", "dataloader", "--megabytes", 3, "--repeats", 1, "--threads", 1)
    answer = cdl(*call, "--json", report)
    assert answer.code == 0
    result = json.loads(report.read_text())
    assert result["work"]["samples"] == 3_000_000 // (12 * 32 * 32)
    names = [figure["name"] for figure in result["figures"]]
    assert names == ["walloc-cdl mmap", "walloc-cdl ram", "dataloader"]
    assert all(name in answer.out for name in (*names, "limit: index_select", "share of it", "waiting", "machine: "))


def test_bench_encode_of_images_and_audio(cdl, tmp_path):
    report = tmp_path / "bench.json"
    call = ("bench", "encode", "--megabytes", 1, "--batch-size", 1, "--repeats", 1, "--threads", 1, "--against", "")
    on_cpu = ("--device", "cpu")
    for options, codec, unit in ((on_cpu, "rgb-16x", "MP/s"), (("--audio", *on_cpu), "stereo-5x", "million frames/s")):
        answer = cdl(*call, *options, "--json", report)
        assert answer.code == 0
        result = json.loads(report.read_text())
        assert (result["work"]["codec"], result["unit"], result["work"]["device"]) == (codec, unit, "cpu")
        assert unit in answer.out


def test_bench_prepare_and_train(cdl, source, tmp_path):
    report = tmp_path / "bench.json"
    call = ("bench", "prepare", source, "--size", 64, "--workers", 0, "--repeats", 1, "--json", report)
    answer = cdl(*call)
    assert answer.code == 0
    result = json.loads(report.read_text())
    assert (result["work"]["samples"], result["limits"][0]["name"]) == (24, "decoding")
    call = ("bench", "train", "--model", "test_resnet", "--megabytes", 1, "--batch-size", 8, "--steps", 1)
    answer = cdl(*call, "--repeats", 1, "--threads", 1, "--against", "dataloader", "--json", report)
    assert answer.code == 0
    assert "images/s" in answer.out


def test_absent_peers_are_listed_below_the_table(cdl, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "walloc" else real(name))
    call = ("bench", "encode", "--megabytes", 1, "--batch-size", 1, "--repeats", 1, "--threads", 1)
    answer = cdl(*call, "--against", "walloc")
    assert answer.code == 0
    assert "walloc: not measured, walloc is not installed; pip install 'walloc-cdl[bench]'" in answer.out
