"""SHA-256 of all that the package writes of real data, to compare two checkouts.

    PYTHONPATH=CHECKOUT python -m tests.support.written_bytes DATA OUT [CASE …]

writes OUT/digests.json: for each case the digest of each file, without what differs from run to run (provenance, times
and digests taken of them). Of two checkouts, with the same versions of libraries on the same machine, the two files
must be equal. A checkout without this module is measured by another's: `PYTHONPATH=CHECKOUT python
OTHER/tests/support/written_bytes.py DATA OUT`. All cases take about four minutes on two cores and start from an empty
OUT. With names of cases only these are run, in what OUT holds, since most need the folders of earlier ones.

DATA holds `clothing` (github.com/alexeygrigorev/clothing-dataset-small), `esc10`, a folder for each class of
github.com/karolpiczak/ESC-10, and below `hyperspectral` the file of Jasper Ridge from
github.com/ricardoborsoi/MUA_SparseUnmixing, with an array `Y`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PER_RUN = ("provenance.json", "record.json", "state_dict.json", "dataset_info.json")
"""Files that say when and where they were made."""

SMALL = ("--shard-samples", "64", "--workers", "2")
CODECS = ("rgb-16x", "rgb-4x", "gray-16x", "gray-4x", "mono-16x", "stereo-5x")
CODECS += ("resize-rgb-16x", "resize-gray-4x", "resize-mono-4x")

STREAM = """
from pathlib import Path
import datasets_prep, walloc_cdl
paths = sorted(Path("clothing").rglob("*.jpg"))[:200]
names = sorted({path.parent.name for path in paths})
samples = [(path, names.index(path.parent.name)) for path in paths]
source = datasets_prep.IterableSource(samples, name="stream", class_names=names)
config = datasets_prep.PrepareConfig(shard_samples=64, workers=2)
datasets_prep.prepare(source, walloc_cdl.load_codec("rgb-16x"), "stream", config)
"""
CODEC_IDS = f"""
import json, walloc_cdl
print(json.dumps({{name: walloc_cdl.load_codec(name).spec.codec_id for name in {CODECS!r}}}))
"""
TENSORS = """
import hashlib, json
from pathlib import Path
from safetensors.torch import load_file
found = {}
for path in Path("run").rglob("*.safetensors"):
    if "checkpoint" not in path.name:
        for name, tensor in sorted(load_file(path).items()):
            data = tensor.contiguous().numpy().tobytes()
            found[f"{path.name}:{name}"] = hashlib.sha256(data).hexdigest()
print(json.dumps(found))
"""


def python(*arguments: object) -> str:
    """What a Python process of the checkout prints, started in OUT."""
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, arguments))}: exit code {done.returncode}\n{done.stderr[-3000:]}")
    return done.stdout


def cdl(*arguments: object) -> None:
    python("-m", "walloc_cdl", *arguments)


def digests(folder: str) -> dict[str, str]:
    """SHA-256 of every file below a folder that is the same in every run, by its path."""
    root = Path(folder)
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and path.name not in PER_RUN]
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def under(prefix: str, found: dict[str, str]) -> dict[str, str]:
    return {f"{prefix}/{name}": digest for name, digest in found.items()}


def of_all(found: dict[str, str]) -> str:
    """One digest of many."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


class Cases:
    """What is written, in OUT, the working directory: a method for each case, in the order in which they are run.

    The source of images is a copy of clothing's test split alone, which so becomes the split to train on.
    """

    def __init__(self, data: Path, out: Path) -> None:
        self.clothing, self.growing = out / "clothing", out / "growing"
        self.images, self.sounds = f"imagefolder:{self.clothing}", f"audiofolder:{data / 'esc10'}"
        self._data = data
        if not self.clothing.exists():
            shutil.copytree(data / "clothing/test", self.clothing / "test")

    def photos(self) -> list[Path]:
        return sorted(self.clothing.rglob("*.jpg"))

    def _prepare(self, out: str, *options: object, source: str | None = None, codec: str = "rgb-16x") -> dict[str, str]:
        cdl("prepare", source or self.images, "--codec", codec, "--out", out, *options)
        return digests(out)

    def local(self) -> dict[str, str]:
        return self._prepare("local", *SMALL)

    def local_defaults(self) -> dict[str, str]:
        options = ("--size", "128", "--resize", "bicubic", "--crop", "pad", "--icc", "srgb", "--workers", "0")
        return self._prepare("defaults", *options, codec="rgb-4x")

    def pil_scaled(self) -> dict[str, str]:
        return self._prepare("scaled", "--size", "64", "--decoder", "pil-scaled", "--drop-duplicates", *SMALL)

    def resize_codec(self) -> dict[str, str]:
        return self._prepare("pixels", *SMALL, codec="resize-rgb-16x")

    def ray(self) -> dict[str, str]:
        return self._prepare("ray", "--engine", "ray", "--address", "local", *SMALL)

    def slices(self) -> dict[str, str]:
        for number in (2, 1):
            self._prepare("slices", "--shards", f"{number}/2", *SMALL)
        return self._prepare("slices", "--finish", *SMALL)

    def stream(self) -> dict[str, str]:
        python("-c", STREAM)
        return digests("stream")

    def extended(self) -> dict[str, str]:
        """Two images of three first, then all."""
        shutil.rmtree(self.growing, ignore_errors=True)
        photos = self.photos()
        self._grow([path for number, path in enumerate(photos) if number % 3])
        self._prepare("extended", *SMALL, source=f"imagefolder:{self.growing}")
        self._grow(photos)
        return self._prepare("extended", "--extend", *SMALL, source=f"imagefolder:{self.growing}")

    def _grow(self, photos: list[Path]) -> None:
        for path in photos:
            target = self.growing / path.relative_to(self.clothing)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)

    def dropped(self) -> dict[str, str]:
        shutil.copytree("local", "dropped", dirs_exist_ok=True)
        keys = [path.relative_to(self.clothing).as_posix() for path in self.photos()]
        Path("keys.txt").write_text("\n".join(sorted(keys)[::9]))
        cdl("drop", "dropped", "--keys", "keys.txt")
        return digests("dropped")

    def repaired(self) -> dict[str, str]:
        """One bit of every second shard was flipped."""
        shutil.copytree("extended", "repaired")
        for shard in sorted(Path("repaired").glob("*.safetensors"))[::2]:
            data = bytearray(shard.read_bytes())
            data[len(data) // 2] ^= 1
            shard.write_bytes(data)
        cdl("repair", "repaired", "--source", f"imagefolder:{self.growing}")
        return digests("repaired")

    def split(self) -> dict[str, str]:
        shutil.copytree("local", "splitted")
        cdl("split", "splitted", "--into", "train=0.7,held=0.3", "--seed", "1")
        for name in ("train", "held"):
            cdl("split", "splitted", "--only", name, "--out", f"only-{name}")
        return {**digests("splitted"), **under("only", digests("only-train"))}

    def merged(self) -> dict[str, str]:
        cdl("merge", "only-train", "only-held", "--out", "merged")
        return digests("merged")

    def ragged(self) -> dict[str, str]:
        return self._prepare("ragged", "--geometry", "ragged", "--limit", "60", *SMALL)

    def views(self) -> dict[str, str]:
        return self._prepare("views", "--views", "flip,crops:2", "--limit", "60", "--size", "128", *SMALL)

    def esc10(self) -> dict[str, str]:
        options = ("--segment", "2.5", "--holdout", "0.2", "--normalization", "clip", "--limit", "200")
        whole = ("--geometry", "ragged", "--limit", "40")
        segments = self._prepare("esc10", *options, "--workers", "2", source=self.sounds, codec="mono-16x")
        clips = self._prepare("esc10-ragged", *whole, "--workers", "2", source=self.sounds, codec="mono-16x")
        return {**segments, **under("ragged", clips)}

    def cube(self) -> dict[str, str]:
        file = next(path for path in sorted((self._data / "hyperspectral").rglob("*.mat")) if "asper" in path.name)
        source = f"mat:{file}?variable=Y&layout=C(WH)&height=100&patch=16&hop=8&range=0,10000"
        cdl("codec", "fit", source, "--reduction", "18", "--out", "cube-codec", "--levels", "1")
        patches = self._prepare("cube", *SMALL, source=source, codec="cube-codec")
        return {**patches, **under("codec", digests("cube-codec"))}

    def fitted(self) -> dict[str, str]:
        of_images = ("--reduction", "16", "--out", "fitted", "--fraction", "0.3", "--seed", "2")
        cdl("codec", "fit", self.images, *of_images)
        cdl("codec", "fit", self.sounds, "--reduction", "16", "--out", "fitted-audio", "--fraction", "0.1")
        return {**digests("fitted"), **under("audio", digests("fitted-audio"))}

    def exports(self) -> dict[str, str]:
        found = {}
        for form in ("parquet", "webdataset", "npy", "hf"):
            for name in ("local", "esc10"):
                cdl("export", name, "--to", form, "--out", f"export-{name}-{form}")
                found |= under(f"{name}/{form}", digests(f"export-{name}-{form}"))
        return found

    def archives(self) -> dict[str, object]:
        """There and back."""
        found = {}
        for name in ("local", "scaled", "esc10"):
            cdl("export", name, "--archive", "--out", f"archives-{name}")
            cdl("prepare", f"archives-{name}", "--archive", "--out", f"restored-{name}")
            found |= under(name, digests(f"archives-{name}"))
            found |= under(f"{name}/restored", digests(f"restored-{name}"))
        return {"all": of_all(found), "count": len(found)}

    def single_files(self) -> dict[str, str]:
        Path("few").mkdir(exist_ok=True)
        for path in self.photos()[:12]:
            shutil.copy(path, "few")
        cdl("codec", "encode", Path("few").resolve(), "--codec", "rgb-16x", "--out", "single")
        cdl("codec", "decode", "single", "--out", "single-decoded")
        return {**digests("single"), **digests("single-decoded")}

    def codec_ids(self) -> dict[str, str]:
        return json.loads(python("-c", CODEC_IDS))

    def training(self) -> dict[str, object]:
        """One seeded epoch on the CPU."""
        options = ("--model", "resnet10t", "--epochs", "1", "--seed", "3", "--device", "cpu")
        cdl("train", "splitted", *options, "--out", "run")
        path = Path("run/record.json")
        record = json.loads(path.read_text()) if path.exists() else {}
        tensors = json.loads(python("-c", TENSORS))
        figures = {name: record.get(name) for name in ("losses", "weights_sha256", "metrics")}
        return {"record": figures, "tensors": of_all(tensors), "n": len(tensors)}

    def by_name(self) -> dict[str, Callable[[], dict[str, object]]]:
        methods = [name for name in vars(Cases) if not name.startswith("_") and name not in ("photos", "by_name")]
        return {name.replace("_", "-"): getattr(self, name) for name in methods}


def main(data: Path, out: Path, chosen: list[str]) -> None:
    """Run all cases, or the chosen ones, and print a short digest of each that OUT knows."""
    # Processes run in OUT, by the checkout's path written out.
    path = [str(Path(part).resolve()) for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    os.environ |= {"PYTHONPATH": os.pathsep.join(path), "PYTHONHASHSEED": "0"}
    if not chosen:
        shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    os.chdir(out)
    report = Path("digests.json")
    results = json.loads(report.read_text()) if report.exists() else {}
    cases = Cases(data, out).by_name()
    if unknown := [name for name in chosen if name not in cases]:
        sys.exit(f"unknown case {unknown[0]!r}; expected some of {', '.join(cases)}")
    print(python("-c", "import walloc_cdl; print(walloc_cdl.__file__)").strip())
    for name in chosen or cases:
        print(name, flush=True)
        results[name] = cases[name]()
        report.write_text(json.dumps(results, indent=1, sort_keys=True))
    short = {name: of_all(result)[:16] for name, result in sorted(results.items())}
    print(json.dumps(short, indent=1))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), sys.argv[3:])
