"""The linear synthesis of sound: one fixed layer from a few neighboring latents to the samples of one.

Sets of sound store no synthesis, so it is fitted when a classifier is built, to what the codec of the set decodes.
Linear decoders are reproduced: with the shipped codecs, six wavelet levels, the fit over 5, 7 and 9 latents differs
from the decoder by -44, -80 and -134 dB. Of a network's decoder, it is the linear part.
"""

from __future__ import annotations

import numpy as np
import torch

from walloc_cdl.data import LatentDataset
from walloc_cdl.errors import CallError
from walloc_cdl.planes.levels import channel_values

NEIGHBORS = 9
"""Width in latents of the neighborhood that the samples of one latent are computed from; odd."""

PIECE_LATENTS = 512
"""Latents of each sample that the layer is fitted to."""

MAX_FITTED = 32
"""Number of samples that the layer is fitted to, at most."""

MAX_UNKNOWNS = 8192
"""Largest number of weights of one output, whose normal equations take half a gigabyte."""

RIDGE = 1e-9
"""Regularization relative to the mean diagonal of the normal equations, which channels that never vary require."""


def samples_per_latent(dataset: LatentDataset) -> int:
    """Return how many samples the layer makes of one latent: the stride, and 1 of resampled sound, which is stored."""
    return 1 if dataset.spec.companding == "none" else dataset.spec.stride


def waveform_rate(dataset: LatentDataset) -> float:
    """Return the sample rate in Hz of the waveform that the layer makes; raises `CallError` if it is unknown."""
    spec = dataset.spec
    rate = spec.sample_rate or dataset.manifest.preprocessing.get("sample_rate")
    if not isinstance(rate, int | float) or not rate > 0:
        raise CallError(
            f"the sample rate of the sounds in {dataset.folder} is unknown, so they have no spectrogram; prepare them "
            "again, which records it"
        )
    return rate * samples_per_latent(dataset) / spec.stride


def waveform_shape(dataset: LatentDataset) -> tuple[int, int]:
    """Return the shape of the layer's weights without the outputs: K and the width of the neighborhood."""
    return dataset.spec.latent_channels, 1 if dataset.spec.companding == "none" else NEIGHBORS


@torch.no_grad()
def fit_waveform(dataset: LatentDataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the layer of a data set of sound: weight float64 (C S, K, n) and bias (C S,).

    For inverse-companded latents z (K, t), extended periodically, the convolution `weight * z + bias` has the shape
    (C S, t), where row c S + s holds sample s of each latent in channel c, in [-0.5, 0.5]. Raises `CallError` if there
    is no sample to fit to, or if the data set has no codec.
    """
    spec = dataset.spec
    if spec.companding == "none":  # the codes are the waveform
        return np.eye(spec.latent_channels)[:, :, None], np.zeros(spec.latent_channels)
    unknowns = spec.latent_channels * NEIGHBORS + 1
    if unknowns > MAX_UNKNOWNS:
        raise CallError(
            f"latents of {spec.latent_channels:,} channels are too many for a waveform; at most "
            f"{(MAX_UNKNOWNS - 1) // NEIGHBORS}: use a codec of fewer, or train a model of your own"
        )
    values = torch.from_numpy(channel_values(spec, dataset.levels))
    gram, moments = torch.zeros(unknowns, unknowns).double(), torch.zeros(unknowns, 0).double()
    edge = spec.extra_frames // 2
    for row in np.linspace(0, len(dataset) - 1, min(len(dataset), MAX_FITTED)).astype(int).tolist():
        codes = dataset[row].codes
        start = max(codes.shape[1] - PIECE_LATENTS, 0) // 2
        codes = codes[None, :, start : start + PIECE_LATENTS]
        if codes.shape[2] <= 2 * edge:
            continue
        signal = dataset.codec.decode(codes)[0].double()
        latents = values.gather(1, codes[0].long())[:, edge : codes.shape[2] - edge]
        targets = signal.unflatten(1, (-1, spec.stride)).movedim(2, 1).flatten(0, 1)  # (C S, t)
        shifted = [latents.roll(NEIGHBORS // 2 - place, 1) for place in range(NEIGHBORS)]
        rows = torch.cat([torch.stack(shifted, 1).flatten(0, 1), torch.ones(1, latents.shape[1]).double()])
        unclamped = targets.abs().amax(0) < 0.5
        rows, targets = rows[:, unclamped], targets[:, unclamped]
        gram += rows @ rows.T
        moments = moments if moments.numel() else moments.new_zeros(unknowns, len(targets))
        moments += rows @ targets.T
    if not moments.numel():
        raise CallError(f"{dataset.folder} has no sound to fit the synthesis to; prepare more of the source")
    gram.diagonal().add_(RIDGE * float(gram.diagonal().mean()))
    solution = torch.linalg.solve(gram, moments).T.numpy()
    weight = solution[:, :-1].reshape(len(solution), spec.latent_channels, NEIGHBORS)
    return np.ascontiguousarray(weight), np.ascontiguousarray(solution[:, -1])
