"""The labels of ImageNet's validation images, and the classes' names in words, in the forms they are distributed in."""

from __future__ import annotations

import re
from pathlib import Path

from datasets_prep.sources.core.label_files import label_lines
from walloc_cdl.errors import CallError

SYNSET = re.compile(r"n\d{8}")
NUM_CLASSES = 1000
NAMES_FILES = ("LOC_synset_mapping.txt", "words.txt")


def validation_synsets(path: Path, meta: Path | None) -> dict[str, str]:
    """Synset by the image's name without its suffix.

    Of lines `NAME SYNSET`; of Kaggle's table `ImageId,PredictionString`, whose second column begins with the
    synset; or of the devkit's numbers, one a line, which `meta.mat` translates.
    """
    if not path.is_file():
        raise CallError(f"file of labels {str(path)!r} does not exist; give that of the validation images")
    with path.open(encoding="utf-8", errors="replace") as file:
        first = file.readline(4096).strip()
    if first.isdecimal():
        return _from_devkit(path, meta)
    found: dict[str, str] = {}
    for line, name, label in label_lines(path):
        synset = label.split()[0]
        if line == 1 and name == "ImageId":
            continue
        if not SYNSET.fullmatch(synset):
            raise CallError(f"{str(path)!r}, line {line}: label {label[:60]!r}; expected a synset, as n01440764")
        found[Path(name).stem] = synset
    return found


def _from_devkit(path: Path, meta: Path | None) -> dict[str, str]:
    """Line i is the class number of image i, in an order of the devkit's own."""
    meta = meta or next((place for place in (path.parent / "meta.mat",) if place.is_file()), None)
    if meta is None:
        raise CallError(
            f"{str(path)!r} has the devkit's own class numbers; give ?meta=FILE, the devkit's data/meta.mat, as well"
        )
    synsets = _meta_synsets(meta)
    found = {}
    lines = path.read_text(encoding="utf-8", errors="replace").split()
    for number, text in enumerate(lines, 1):
        if not text.isdecimal() or int(text) not in synsets:
            raise CallError(f"{str(path)!r}, line {number}: class {text[:20]!r}; expected 1 to {len(synsets)}")
        found[f"ILSVRC2012_val_{number:08d}"] = synsets[int(text)]
    return found


def _meta_synsets(path: Path) -> dict[int, str]:
    """Class number to synset, of the devkit's `meta.mat`: a structure array `synsets` with ILSVRC2012_ID and WNID."""
    from scipy.io import loadmat

    try:
        table = loadmat(path, variable_names=["synsets"], squeeze_me=True)["synsets"]
        pairs = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in table}
    except Exception as error:  # on broken files SciPy raises whatever its parsing stumbled over
        raise CallError(f"{str(path)!r} is not the devkit's meta.mat ({str(error)[:100]}); give that file") from error
    return {number: synset for number, synset in pairs.items() if 1 <= number <= NUM_CLASSES}


def human_names(root: Path) -> dict[str, str]:
    """By synset the first of its names in words, from `LOC_synset_mapping.txt` or `words.txt` in the folder."""
    found: dict[str, str] = {}
    for path in (root / name for name in NAMES_FILES):
        if path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                synset, _, words = line.strip().replace("\t", " ").partition(" ")
                if SYNSET.fullmatch(synset) and words.strip():
                    found.setdefault(synset, words.partition(",")[0].strip())
            break
    return found
