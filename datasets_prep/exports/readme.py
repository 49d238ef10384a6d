"""README.md of an export: how to convert its bytes to numbers, in a few lines of runnable code."""

from __future__ import annotations

from collections.abc import Sequence

from datasets_prep.exports.description import DESCRIPTION_NAME
from datasets_prep.exports.export_format import ExportFormat, Part
from walloc_cdl.errors import markdown_text
from walloc_cdl.latents import Manifest

_TEXT = """\
{header}# Latents

{num_samples:,} samples of {shape} bytes each, in the splits {splits},
exported by walloc-cdl; their source is {source}. A byte stands for a number, {number}, by the
table in `{description}`, which also has the classes, the codec's spec and the SHA-256 of every file.{unknown}

```python
import json
import numpy as np
{example}table = np.array(json.load(open("{description}"))["byte_values"], np.float32)
latents = {lookup}  # {shape_note}
```

With walloc-cdl and the codec in `codec/`, codes become {signals} again:

```python
import torch
import walloc_cdl as cdl

decoded = cdl.load_codec("codec"){planes}.decode(torch.from_numpy(np.array(codes{first_view})))  # float in [-0.5, 0.5]
```
"""


_UNKNOWN = {"class": "\nA label of -1 is unknown.", "regression": "\nA target of NaN (null in JSON) is unknown."}


def readme(manifest: Manifest, export_format: ExportFormat, parts: Sequence[Part]) -> bytes:
    """Return the content of README.md."""
    splits = list(dict.fromkeys(part.split for part in parts))
    axes = ("samples", *(["views"] if manifest.views else []), *manifest.spec.axes)
    axis = f"[:{', None' * (len(manifest.spec.axes) - 1)}]"
    example_part = next((part for part in parts if part.num_samples), parts[0])
    text = _TEXT.format(
        header=export_format.header(parts),
        num_samples=sum(manifest.splits[split].num_samples for split in splits),
        shape=" × ".join(map(str, manifest.layout.sample_shape)),
        splits=", ".join(f"`{split}`" for split in splits),
        number="the companded latent" if manifest.spec.planes is None else "a level of its channel",
        lookup="table[codes]" if manifest.spec.planes is None else f"table[np.arange(len(table)){axis}, codes]",
        planes="" if manifest.spec.planes is None else f".with_planes({manifest.spec.num_planes})",
        source=markdown_text(str(manifest.source.get("name", "unknown"))),
        description=DESCRIPTION_NAME,
        unknown=_UNKNOWN.get(manifest.label_kind, ""),
        example=export_format.example(manifest, example_part),
        shape_note=f"float, ({', '.join(axes)})",
        first_view="[:, 0]" if manifest.views else "",
        signals="images" if manifest.spec.kind == "image" else "sound",
    )
    return text.encode("utf-8")
