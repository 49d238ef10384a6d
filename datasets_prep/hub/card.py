"""The card of a data set on the Hub: README.md, made of the manifest."""

from __future__ import annotations

import math

from walloc_cdl.errors import markdown_text
from walloc_cdl.latents import Manifest

CARD_NAME = "README.md"

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_LARGER = "n>10M"

_LABELS = {
    "class": "int64 (B,), -1 where unknown",
    "multilabel": "uint8 {shape}, 1 for each class that applies",
    "regression": "float32 {shape}, NaN where unknown",
    "none": "int64 (B,), all -1: there are no labels",
}

_COVERED = "  # latents, which every sample must cover"
_CROPS = {"image": f", crop=(16, 16)){_COVERED}", "audio": f", crop=(256,)){_COVERED}"}
"""An example of a window, for samples that differ in size."""

_TEXT = """\
# {title}

Latents of {source}, encoded once with walloc-cdl: what classifiers are trained on instead of {signals}.

| | |
| --- | --- |
| latents | {latents} |
| codec | `{codec_id}`: {source_channels} channels, stride {stride}, {reduction:g} times fewer values than the source |
| size | {num_samples:,} samples, {shard_bytes:,} bytes of shards |
| splits | {splits} |
{names}

## How to load

```python
import walloc_cdl as cdl

dataset = cdl.open_latents("hf://datasets/{repo_id}", split="{split}")
loader = cdl.LatentLoader(dataset, batch_size=256{crop}
for codes, labels in loader:  # uint8 ({axes}) and {labels}
    ...
```

`cdl pull {repo_id} -o DIR` brings all of it to a folder, every file checked against its SHA-256, and
`{codec}.decode(codes)` makes {signals} of codes.
"""


def dataset_card(manifest: Manifest, repo_id: str) -> bytes:
    """The file, with the Hub's YAML header; the same manifest gives the same card.

    It names no license: that is the source's, which only the owner of the data set knows.
    """
    spec = manifest.spec
    splits = sorted(manifest.splits, key=lambda split: (split != "train", split))
    num_samples = sum(summary.num_samples for summary in manifest.splits.values())
    text = _TEXT.format(
        title=repo_id.split("/")[-1],
        source=markdown_text(str(manifest.source.get("name", "an unnamed source"))),
        signals="images" if spec.kind == "image" else "sound",
        latents=_latents(manifest),
        codec='cdl.load_codec("DIR/codec")' if spec.planes is None else "dataset.codec",
        codec_id=spec.codec_id[:16],
        source_channels=spec.source_channels,
        stride=spec.stride,
        reduction=spec.reduction(),
        num_samples=num_samples,
        shard_bytes=sum(entry.num_bytes for entry in manifest.shards),
        splits=", ".join(f"{split} ({manifest.splits[split].num_samples:,})" for split in splits) or "none",
        names=_names(manifest),
        repo_id=repo_id,
        split=splits[0] if splits else "train",
        axes=", ".join(("B", *spec.axes)),
        crop=_CROPS[spec.kind] if manifest.layout.ragged else ", unpack=True)" if manifest.layout.packed else ")",
        labels=_LABELS[manifest.label_kind].format(shape=_shape(manifest.layout.labels.sample_shape)),
    )
    return (_header(manifest, repo_id, num_samples) + text).encode("utf-8")


def _latents(manifest: Manifest) -> str:
    """Description of shape and form of the latents."""
    spec, layout = manifest.spec, manifest.layout
    shape = " × ".join("any" if side is None else str(side) for side in manifest.latent_shape)
    views = f", {len(manifest.views)} views of each" if manifest.views else ""
    if spec.planes is None:
        return f"{shape} bytes a sample{views}, {spec.bits} bits, companding {spec.companding}"
    size = "" if layout.ragged else f" of {math.prod(layout.view_shape):,} bytes"
    return f"{shape} codes a sample{views}, in {spec.num_planes} bit planes{size}"


def _names(manifest: Manifest) -> str:
    """The row of the table that says what is known of each sample."""
    if manifest.target_names is not None:
        return f"| targets | {', '.join(map(markdown_text, manifest.target_names))} |"
    kind = "classes, several a sample" if manifest.label_kind == "multilabel" else "classes"
    return f"| {kind} | {', '.join(map(markdown_text, manifest.class_names)) if manifest.class_names else 'none'} |"


def _shape(of_a_label: tuple[int, ...]) -> str:
    return "({})".format(", ".join(("B", *map(str, of_a_label)))) if of_a_label else "(B,)"


def _header(manifest: Manifest, repo_id: str, num_samples: int) -> str:
    """The YAML header, as the Hub reads it."""
    from huggingface_hub import DatasetCardData

    data = DatasetCardData(
        pretty_name=repo_id.split("/")[-1],
        task_categories=None if manifest.class_names is None else [f"{manifest.spec.kind}-classification"],
        size_categories=[next((name for most, name in _SIZES if num_samples < most), _LARGER)],
        tags=["walloc", "latents", "compressed-domain-learning"],
        viewer=False,
    )
    return f"---\n{data.to_yaml()}\n---\n\n"
