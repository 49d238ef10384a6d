"""`cdl merge`: merges several data sets of the same kind of latents."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from datasets_prep.folders.derived_folder import derive
from datasets_prep.job.plan import JOB_SETTINGS
from datasets_prep.upkeep.cut import copy_codec, with_planes
from datasets_prep.upkeep.derive import Derivation, InputDataSet, find_derived
from walloc_cdl.canonical import canonical_json, first_difference, sha256_hex
from walloc_cdl.errors import CallError, abbreviate
from walloc_cdl.latents import (
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
    """Make the data set `out` of all samples of `folders`, split by split, in this order.

    Specs, shapes, views, kinds of labels and preprocessing must be equal; of latents with bit planes of one codec, the
    smallest number of planes is stored. The class names are the union, in order of
    appearance, and labels are renumbered. With `prefix`, each key is prefixed with its folder's name and a slash;
    without it, no key may occur twice in a split. Codec and synthesis are those of the first data set. The same call
    again resumes an interrupted one.

    Raises `CallError`, with both values, for incompatible data sets, and for an `out` that holds anything else or that
    another process works on; `DamagedError` for damaged data sets.
    """
    if len(folders) < 2:
        raise CallError(f"merging {len(folders)} data set; name two or more")
    manifests = [load_manifest(folder) for folder in folders]
    described = _with_fewest_planes(manifests)
    for folder, manifest in zip(folders[1:], described[1:], strict=True):
        _require_compatible(folders[0], described[0], folder, manifest)
    source = _source(folders, manifests, prefix)
    inputs, class_names = _inputs(folders, manifests, prefix)
    merged = replace(described[0], class_names=class_names, source=source)

    if not (out / MANIFEST_NAME).is_file():
        _require_distinct_keys(inputs)
    return derive(
        out,
        {"job": "merge", "source": source},
        lambda: find_derived(out, source),
        lambda: _write(folders, inputs, merged, out, on_shard),
    )


def _write(
    folders: Sequence[Path],
    inputs: Sequence[InputDataSet],
    described: Manifest,
    out: Path,
    on_shard: Callable[[int, int], object] | None,
) -> Manifest:
    """Write the merged data set; `described` is its manifest without what `Derivation` adds."""
    splits = list(dict.fromkeys(split for each in inputs for split in each.manifest.splits))

    def assign(number: int, entry: Any) -> np.ndarray:
        return np.full(entry.num_samples, splits.index(entry.split), np.int64)

    manifest = Derivation(inputs, described, splits, assign).write(out, on_shard)
    manifest = copy_codec(folders[0], out, manifest)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    write_provenance(out, {"created": created, "merged": [folder.resolve().name for folder in folders]})
    write_manifest(out, manifest)
    return manifest


def _with_fewest_planes(manifests: Sequence[Manifest]) -> list[Manifest]:
    """Return the manifests with the smallest number of bit planes of all, if all have planes of one codec."""
    specs = [manifest.spec for manifest in manifests]
    if None in {spec.planes for spec in specs} or len({spec.codec_id for spec in specs}) > 1:
        return list(manifests)
    return [with_planes(manifest, min(spec.num_planes for spec in specs)) for manifest in manifests]


def _require_compatible(first: Path, first_manifest: Manifest, other: Path, other_manifest: Manifest) -> None:
    difference = first_difference(_required_equal(first_manifest), _required_equal(other_manifest))
    if difference is not None:
        name, a, b = difference
        raise CallError(
            f"{first} has {name} {a!r}, but {other} has {b!r}; merge only data sets of the same kind of latents"
        )


def _required_equal(manifest: Manifest) -> dict[str, Any]:
    """Return the properties that must be equal for a merge."""
    return {
        "spec": manifest.spec.to_json(),
        "latent_shape": list(manifest.latent_shape),
        "views": manifest.views,
        "label_kind": manifest.label_kind,
        "target_names": manifest.target_names,
        "named classes": manifest.class_names is not None,
        "preprocessing": {name: value for name, value in manifest.preprocessing.items() if name not in JOB_SETTINGS},
    }


def _source(folders: Sequence[Path], manifests: Sequence[Manifest], prefix: bool) -> dict[str, Any]:
    """Return the `source` of the merged manifest, which lists the inputs by the digests of their manifests."""
    prefixes = _prefixes(folders, prefix)
    digests = [sha256_hex(manifest_bytes(manifest)) for manifest in manifests]
    parts = [{"manifest_sha256": a, "prefix": b} for a, b in zip(digests, prefixes, strict=True)]
    names = " and ".join(str(manifest.source.get("name", "a data set")) for manifest in manifests)
    return {"name": names, "fingerprint": sha256_hex(canonical_json(parts)), "merged": parts}


def _prefixes(folders: Sequence[Path], prefix: bool) -> list[str]:
    return [f"{folder.resolve().name}/" if prefix else "" for folder in folders]


def _inputs(
    folders: Sequence[Path], manifests: Sequence[Manifest], prefix: bool
) -> tuple[list[InputDataSet], list[str] | None]:
    """Return the data sets with their prefixes and new class numbers, and the names of all classes."""
    names: list[str] | None = None
    if manifests[0].class_names is not None:
        names = list(dict.fromkeys(name for manifest in manifests for name in manifest.class_names or []))
    prefixes = _prefixes(folders, prefix)
    if prefix and len(set(prefixes)) != len(prefixes):
        raise CallError(f"two of the folders {', '.join(prefixes)} have the same name; rename one to use --prefix")
    inputs = []
    for folder, manifest, text in zip(folders, manifests, prefixes, strict=True):
        numbers = None if names is None else np.array([names.index(name) for name in manifest.class_names or []], int)
        inputs.append(InputDataSet(folder, manifest, text, numbers))
    return inputs, names


def _require_distinct_keys(inputs: Sequence[InputDataSet]) -> None:
    """Raise `CallError` for keys that occur twice in a split.

    Compares 8-byte hashes of all keys, then the keys whose hashes occur twice.
    """
    for split in dict.fromkeys(split for each in inputs for split in each.manifest.splits):
        hashes = np.fromiter((_hash(key) for key in _keys(inputs, split)), np.uint64)
        values, counts = np.unique(hashes, return_counts=True)
        suspects = set(values[counts > 1].tolist())
        seen: set[str] = set()
        repeated: list[str] = []
        for key in _keys(inputs, split) if suspects else ():
            if _hash(key) in suspects:
                if key in seen:
                    repeated.append(repr(key))
                seen.add(key)
        if repeated:
            raise CallError(
                f"{len(repeated)} keys occur twice in split {split!r}: {abbreviate(repeated)}; give --prefix to prefix "
                "keys with the names of their folders"
            )


def _keys(inputs: Sequence[InputDataSet], split: str) -> Iterable[str]:
    for each in inputs:
        for entry in each.manifest.shards_of(split):
            shard = open_shard(each.folder / entry.name, entry, each.manifest.layout)
            yield from map(each.rename, shard.keys(range(len(shard))))


def _hash(key: str) -> int:
    return int(sha256_hex(key.encode("utf-8", "replace"))[:16], 16)
