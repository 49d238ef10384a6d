"""`cdl merge`: several data sets of the same latents as one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from datasets_prep.folders.derived_folder import begin, copy_files, end
from datasets_prep.job.plan import OF_THE_JOB
from datasets_prep.upkeep.derive import Derivation, Origin
from walloc_cdl.canonical import canonical_json, first_difference, sha256_hex
from walloc_cdl.errors import CallError, abbreviate
from walloc_cdl.latents import (
    LEDGER_NAME,
    MANIFEST_NAME,
    Manifest,
    load_manifest,
    manifest_bytes,
    open_shard,
    write_manifest,
    write_provenance,
)


def merge(
    folders: Sequence[Path],
    out: Path,
    *,
    prefix: bool = False,
    on_shard: Callable[[int, int], object] | None = None,
) -> Manifest:
    """Make the data set `out` of all samples of `folders`, split by split, in that order.

    Specs, shapes, views, kinds of labels and preprocessing must be equal. Class names are united in the order in which
    they come, and labels follow. With `prefix` every key gets its folder's name and a slash in front; without, no two
    may have a key in common in the same split. Codec and synthesis are the first one's. The same call again goes on
    with what was interrupted. Raises `CallError`, naming both values, for data sets that do not fit together, and for
    an `out` that holds anything else; `DamagedError` for damaged ones.
    """
    if len(folders) < 2:
        raise CallError(f"merging {len(folders)} data set; name two or more")
    manifests = [load_manifest(folder) for folder in folders]
    for folder, manifest in zip(folders[1:], manifests[1:], strict=True):
        _require_alike(folders[0], manifests[0], folder, manifest)
    source = _source(folders, manifests, prefix)
    if (out / MANIFEST_NAME).is_file():
        if (found := load_manifest(out)).source != source:
            raise CallError(f"{out} holds another data set; give a new or empty folder")
        end(out)
        return found
    origins, class_names = _origins(folders, manifests, prefix)
    _require_distinct_keys(origins)
    begin(out, {"job": "merge", "source": source})
    splits = list(dict.fromkeys(split for manifest in manifests for split in manifest.splits))

    def assign(number: int, entry: Any) -> np.ndarray:
        return np.full(entry.num_samples, splits.index(entry.split), np.int64)

    described = replace(manifests[0], class_names=class_names, source=source)
    manifest = Derivation(origins, described, splits, assign).write(out, on_shard)
    copy_files(folders[0], out, {name: entry for name, entry in manifest.files.items() if name != LEDGER_NAME})
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    write_provenance(out, {"created": when, "merged": [folder.resolve().name for folder in folders]})
    write_manifest(out, manifest)
    end(out)
    return manifest


def _require_alike(first: Path, mine: Manifest, other: Path, theirs: Manifest) -> None:
    difference = first_difference(_traits(mine), _traits(theirs))
    if difference is not None:
        name, a, b = difference
        raise CallError(f"{first} has {name} {a!r}, but {other} has {b!r}; only data sets of equal latents merge")


def _traits(manifest: Manifest) -> dict[str, Any]:
    """What must be equal."""
    return {
        "spec": manifest.spec.to_json(),
        "latent_shape": list(manifest.latent_shape),
        "views": manifest.views,
        "label_kind": manifest.label_kind,
        "target_names": manifest.target_names,
        "named classes": manifest.class_names is not None,
        "preprocessing": {name: value for name, value in manifest.preprocessing.items() if name not in OF_THE_JOB},
    }


def _source(folders: Sequence[Path], manifests: Sequence[Manifest], prefix: bool) -> dict[str, Any]:
    """Of the merged data set: which ones it was made of, by the digests of their manifests."""
    prefixes = _prefixes(folders, prefix)
    digests = [sha256_hex(manifest_bytes(manifest)) for manifest in manifests]
    parts = [{"manifest_sha256": a, "prefix": b} for a, b in zip(digests, prefixes, strict=True)]
    names = " and ".join(str(manifest.source.get("name", "a data set")) for manifest in manifests)
    return {"name": names, "fingerprint": sha256_hex(canonical_json(parts)), "merged": parts}


def _prefixes(folders: Sequence[Path], prefix: bool) -> list[str]:
    return [f"{folder.resolve().name}/" if prefix else "" for folder in folders]


def _origins(
    folders: Sequence[Path], manifests: Sequence[Manifest], prefix: bool
) -> tuple[list[Origin], list[str] | None]:
    """The data sets with their prefixes and new class numbers, and the names of all classes."""
    names: list[str] | None = None
    if manifests[0].class_names is not None:
        names = list(dict.fromkeys(name for manifest in manifests for name in manifest.class_names or []))
    prefixes = _prefixes(folders, prefix)
    if prefix and len(set(prefixes)) != len(prefixes):
        raise CallError(f"two of the folders {', '.join(prefixes)} have one name, so --prefix cannot tell; rename one")
    origins = []
    for folder, manifest, text in zip(folders, manifests, prefixes, strict=True):
        numbers = None if names is None else np.array([names.index(name) for name in manifest.class_names or []], int)
        origins.append(Origin(folder, manifest, text, numbers))
    return origins, names


def _require_distinct_keys(origins: Sequence[Origin]) -> None:
    """Refuse keys that occur twice in a split: by 8-byte hashes of all, then those few by name."""
    for split in dict.fromkeys(split for origin in origins for split in origin.manifest.splits):
        hashes = np.fromiter((_hash(key) for key in _keys(origins, split)), np.uint64)
        values, counts = np.unique(hashes, return_counts=True)
        suspects = set(values[counts > 1].tolist())
        seen: set[str] = set()
        repeated: list[str] = []
        for key in _keys(origins, split) if suspects else ():
            if _hash(key) in suspects:
                if key in seen:
                    repeated.append(repr(key))
                seen.add(key)
        if repeated:
            raise CallError(
                f"{len(repeated)} keys occur twice in split {split!r}: {abbreviate(repeated)}; give --prefix to put "
                "each folder's name before its keys"
            )


def _keys(origins: Sequence[Origin], split: str) -> Iterable[str]:
    for origin in origins:
        for entry in origin.manifest.shards_of(split):
            shard = open_shard(origin.folder / entry.name, entry, origin.manifest.layout)
            yield from map(origin.rename, shard.keys(range(len(shard))))


def _hash(key: str) -> int:
    return int(sha256_hex(key.encode("utf-8", "replace"))[:16], 16)
