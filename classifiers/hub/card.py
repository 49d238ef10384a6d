"""The card of a classifier on the Hub: README.md, made of the run's configuration and record."""

from __future__ import annotations

from classifiers.evaluation.kinds import AnyMetrics, main_figures
from classifiers.models.config import ClassifierConfig
from walloc_cdl.errors import markdown_text
from walloc_cdl.planes.rows import row_bytes
from walloc_cdl.training import RunRecord

CARD_NAME = "README.md"
SHOWN_CLASSES = 100

_TEXT = """\
---
library_name: walloc-cdl
pipeline_tag: image-classification
tags:
- image-classification
- compressed-domain-learning
- timm
---

# {title}

A timm classifier, `{model}`, that takes compressed latents of images in place of pixels: it was trained with walloc-cdl
on {stored_bytes:,} bytes an image.

| | |
| --- | --- |
| input | codes uint8 (B, {shape}){rows} |
| codec | `{codec_id}`{codec} |
| stem | {stem}, to a grid of {height} × {width} pixels |
| classes | {num_classes}{names} |
| training | {epochs} |
{metrics}
## How to use

```python
import classifiers

model = classifiers.from_pretrained("{repo_id}")
logits = model(codes)  # codes of the codec above, as `walloc_cdl.LatentLoader` yields them
```

`cdl predict hub:{repo_id} PHOTOS` classifies files: they are prepared and encoded as the training data were.
"""


def model_card(repo_id: str, config: ClassifierConfig, record: RunRecord[AnyMetrics], *, has_codec: bool) -> bytes:
    """The file, with the Hub's YAML header; the same run gives the same card.

    It names no license: that is for the owner of the data and of the model to say.
    """
    names = [markdown_text(name) for name in (config.class_names or ())[:SHOWN_CLASSES]]
    more = ", …" if len(config.class_names or ()) > SHOWN_CLASSES else ""
    spec = config.spec
    text = _TEXT.format(
        repo_id=repo_id,
        title=markdown_text(repo_id.partition("/")[2]),
        model=config.name,
        stored_bytes=row_bytes(spec, config.latent_shape[1:]),
        shape=", ".join(map(str, config.latent_shape)),
        rows=f", or rows of its {spec.num_planes} bit planes" if spec.planes is not None else "",
        codec_id=spec.codec_id,
        codec=", in the folder `codec`" if has_codec else "",
        stem=config.stem,
        height=config.image_size[0],
        width=config.image_size[1],
        num_classes=config.num_classes,
        names=f": {', '.join(names)}{more}" if names else "",
        epochs=f"{len(record.losses)} epochs{', from published weights' if config.pretrained else ''}",
        metrics=_metrics(record.metrics),
    )
    return text.encode("utf-8")


def _metrics(metrics: AnyMetrics | None) -> str:
    """The figures of the validation data, rows of the table; empty if there are none."""
    if metrics is None:
        return ""
    figures = main_figures(metrics)
    lines = [f"| {name.replace('_', ' ')}, validation data | {value:.4f} |" for name, value in figures.items()]
    return "\n".join([*lines, ""])
