"""A classifier that augments pixels and encodes them in every training step, as without stored latents."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from classifiers import LatentClassifier
from walloc_cdl.codec import Codec
from walloc_cdl.data import LatentDataset


class EncodingClassifier(LatentClassifier):
    """Classifies stored pixels, uint8 (B, C, H, W), by the latents that a codec makes of them.

    It has the layers of `classifier`, which takes the rows of bit planes, or the codes, of `codec`. In training mode
    the pixels are augmented by the samples' words and rounded to bytes before they are encoded, as files that someone
    augments and encodes; the boxes and flips are those that `classifier` would draw for the same words.
    """

    def __init__(self, classifier: LatentClassifier, stored: LatentDataset, codec: Codec) -> None:
        config = dataclasses.replace(
            classifier.config, spec=stored.spec, latent_shape=tuple(stored.latent_shape), grid=stored.latent_shape[1]
        )
        super().__init__(config, classifier.input, classifier.stem, classifier.backbone, origin=classifier.origin)
        self._codecs = stored.codec, codec  # in a tuple, since they are no layers of the classifier

    def pixels(self, codes: Tensor, words: Tensor | None = None) -> Tensor:
        """Returns the input of the backbone for stored pixels."""
        decoder, encoder = self._codecs
        image = decoder.decode(codes) + 0.5
        if self.training and words is not None and self.augmentation is not None:
            channels = image.shape[1]
            image = self.augmentation(image, words, torch.zeros(channels), torch.ones(channels))
        image = (image.clamp(0, 1) * 255).round().to(torch.uint8)
        return self.stem(self.input(encoder.encode(image) if encoder.planes is None else encoder.encode_rows(image)))
