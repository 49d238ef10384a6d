"""Readers for the distributed files of ImageNet's validation labels and of its readable class names."""

from __future__ import annotations

import re
from pathlib import Path

from datasets_prep.decode.mat_files import load_mat_table
from datasets_prep.sources.core.label_files import label_lines
from datasets_prep.sources.core.label_values import is_unknown
from walloc_cdl.errors import CallError
from walloc_cdl.files import open_regular

SYNSET = re.compile(r"n\d{8}")
NUM_CLASSES = 1000
MAX_META_BYTES = 2**24
"""Limit for the table in `meta.mat`, decompressed: several times what the devkit's takes."""
NAMES_FILES = ("LOC_synset_mapping.txt", "words.txt")


def validation_synsets(path: Path, meta: Path | None) -> dict[str, str]:
    """Map image names, without suffix, to synsets.

    The file has lines `NAME SYNSET`; or it is Kaggle's table `ImageId,PredictionString`, whose second column begins
    with the synset; or it has the devkit's class numbers, one per line, which `meta.mat` translates. Raises
    `CallError` for a file that does not exist, cannot be read or has another form.
    """
    if not path.is_file():
        state = "is not a regular file" if path.exists() else "does not exist"
        raise CallError(f"label file {str(path)!r} {state}; give the label file of the validation images")
    with path.open(encoding="utf-8", errors="replace") as file:
        first = file.readline(4096).strip()
    if first.isdecimal():
        return _from_devkit(path, meta)
    found: dict[str, str] = {}
    for line, name, label in label_lines(path):
        if is_unknown(label) or (line == 1 and name == "ImageId"):
            continue
        synset = label.split()[0]
        if not SYNSET.fullmatch(synset):
            raise CallError(f"{str(path)!r}, line {line}: label {label[:60]!r}; expected a synset, such as n01440764")
        found[Path(name).stem] = synset
    return found


def _from_devkit(path: Path, meta: Path | None) -> dict[str, str]:
    """Read a file whose line i is the devkit's class number of image i."""
    beside = path.parent / "meta.mat"
    meta = meta or (beside if beside.is_file() else None)
    if meta is None:
        raise CallError(
            f"{str(path)!r} has the devkit's own class numbers; also give ?meta=FILE, the devkit's data/meta.mat"
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
    """Map class numbers to synsets: `meta.mat` has a structure array `synsets` with ILSVRC2012_ID and WNID."""
    try:
        open_regular(path).close()  # a pipe would be waited for forever
        table = load_mat_table(path, "synsets", max_bytes=MAX_META_BYTES)
        pairs = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in table}
    except Exception as error:  # SciPy raises exceptions of any type for broken files
        raise CallError(f"{str(path)!r} is not the devkit's meta.mat ({str(error)[:100]}); give that file") from error
    return {number: synset for number, synset in pairs.items() if 1 <= number <= NUM_CLASSES}


def readable_names(root: Path) -> dict[str, str]:
    """Map synsets to the first of their names, from `LOC_synset_mapping.txt` or `words.txt` in the folder."""
    found: dict[str, str] = {}
    for path in (root / name for name in NAMES_FILES):
        if path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                synset, _, words = line.strip().replace("\t", " ").partition(" ")
                if SYNSET.fullmatch(synset) and words.strip():
                    found.setdefault(synset, words.partition(",")[0].strip())
            break
    return found
