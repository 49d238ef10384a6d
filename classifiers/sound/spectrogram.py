"""The stem of sound: latents to a waveform by one linear layer, and the waveform to a log-mel spectrogram.

Nothing in it is trained, and the grid that a timm model sees is that of an image: rows are mel bands, columns moments.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, pad

from walloc_cdl.data import ModelInput
from walloc_cdl.errors import CallError
from walloc_cdl.schema import Check

DEFAULT_BANDS = 64
HOP_S = 0.025
"""Usual time between two columns in seconds, half of a window."""
COLUMN_MULTIPLE = 32
"""The number of columns is a multiple of this, which suits patches and strides of timm's models."""
MAX_BANDS, MAX_COLUMNS, MAX_WINDOW = 1024, 2**16, 2**20
MAX_FILTER_VALUES = 2**24
"""Limit for bands times samples of a transform, so that an untrusted configuration takes no memory to speak of."""
FLOOR = 1e-6
"""Power that is added before the logarithm, about 100 dB below a full-scale tone: digital silence stays finite, and the
error of coarse codes in silence does not fill the range."""

Whole = Annotated[int, Check("an integer from 1 to 2^20", lambda value: 1 <= value <= MAX_WINDOW)]


@dataclass(frozen=True)
class SpectrogramConfig:
    """The geometry of a spectrogram; raises `CallError` for one that cannot be computed."""

    rate: float
    """Sample rate of the waveform in Hz."""
    block: Whole
    """Samples of one channel that are made of one latent, S."""
    neighbors: Whole
    """Width in latents of the neighborhood that they are computed from, n."""
    trim: Annotated[int, Check("an integer of at least 0", lambda value: value >= 0)]
    """Latents at each end that hold no sound of their own."""
    window: Whole
    """Samples of a window."""
    hop: Whole
    """Samples from one column to the next."""
    transform: Whole
    """Samples of a Fourier transform; the window is filled up with zeros."""
    bands: Whole
    """Number of rows."""
    columns: Whole
    """Of a sound of the usual length; longer ones, which are evaluated whole, have more."""
    samples: Annotated[int, Check("an integer from 1 to 2^40", lambda value: 1 <= value <= 2**40)]
    """Usual length of the waveform."""

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1e9:
            raise CallError(f"a sample rate of {self.rate:g} Hz; expected one above 0")
        if self.bands > MAX_BANDS or self.columns > MAX_COLUMNS:
            raise CallError(
                f"a spectrogram of {self.bands} × {self.columns}; expected at most {MAX_BANDS} bands and "
                f"{MAX_COLUMNS:,} columns"
            )
        if self.bands * self.transform > MAX_FILTER_VALUES:
            raise CallError(
                f"{self.bands} mel bands of transforms of {self.transform:,} samples; their product is at most "
                f"{MAX_FILTER_VALUES:,}: choose fewer bands"
            )
        if self.neighbors % 2 == 0 or self.window > self.transform:
            raise CallError(f"{self.neighbors} neighbors, a window of {self.window} of {self.transform} samples")

    @classmethod
    def choose(
        cls, *, rate: float, block: int, neighbors: int, trim: int, latents: int, bands: int
    ) -> SpectrogramConfig:
        """Return the geometry for sounds of `latents` latents: a column each 25 ms, closer in sounds below 0.8 s."""
        length = (latents - 2 * trim) * block
        if not 1 <= bands <= MAX_BANDS:
            raise CallError(f"a grid of {bands} mel bands; choose 1 to {MAX_BANDS}, such as {DEFAULT_BANDS}")
        if length < COLUMN_MULTIPLE:
            raise CallError(
                f"sounds of {length} samples are too short for a spectrogram; prepare segments of at least "
                f"{COLUMN_MULTIPLE} samples, after resampling"
            )
        columns = COLUMN_MULTIPLE * max(1, round(length / rate / HOP_S / COLUMN_MULTIPLE))
        hop = length // columns
        narrowest = _to_hz(_to_mel(rate / 2) / (bands + 1))
        resolved = max(2 * hop, math.ceil(rate / narrowest))
        return cls(
            rate=rate,
            block=block,
            neighbors=neighbors,
            trim=trim,
            window=2 * hop,
            hop=hop,
            transform=_fast_size(resolved),
            bands=bands,
            columns=columns,
            samples=length,
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values for canonical JSON."""
        return dataclasses.asdict(self)


class SpectrogramStem(nn.Module):
    """Computes normalized spectrograms (B, C, bands, columns) from the model input (B, K, t).

        waveform = shuffle(W ∗ v + bias),  v = x / scale + mean;   output = (log(mel power + FLOOR) - μ) / σ

    The inverse of the model input's scaling is folded into W. All weights are buffers, and it computes in float32.
    """

    weight: Tensor
    """(C S, K, n)."""
    bias: Tensor
    """(C S,)."""
    pixel_mean: Tensor
    """(C,): mean of the logarithms."""
    pixel_std: Tensor
    """(C,): their standard deviation."""

    def __init__(self, config: SpectrogramConfig, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.config = config
        channels = len(bias) // config.block
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.register_buffer("pixel_mean", torch.zeros(channels))
        self.register_buffer("pixel_std", torch.ones(channels))
        self.register_buffer("_window", torch.hann_window(config.window), persistent=False)
        self.register_buffer("_filters", torch.from_numpy(mel_filters(config)).float(), persistent=False)

    @classmethod
    def fold(
        cls, config: SpectrogramConfig, layer: tuple[np.ndarray, np.ndarray], model_input: ModelInput
    ) -> SpectrogramStem:
        """Build the stem from a linear synthesis, weight (C S, K, n) and bias, and the model input before it."""
        scale, mean = (part.double().numpy() for part in (model_input.scale, model_input.mean))
        weight, bias = layer
        bias = bias + np.einsum("okn,k->o", weight, mean)
        return cls(config, torch.from_numpy(weight / scale[:, None]).float(), torch.from_numpy(bias).float())

    @classmethod
    def zeros(cls, config: SpectrogramConfig, source_channels: int, latent_channels: int) -> SpectrogramStem:
        """Build a stem of zeros with the right shapes, to load weights into."""
        rows = source_channels * config.block
        return cls(config, torch.zeros(rows, latent_channels, config.neighbors), torch.zeros(rows))

    @torch.no_grad()
    def normalize(self, inputs: Iterable[Tensor]) -> None:
        """Set mean and deviation to those of the spectrograms of model inputs (B, K, t)."""
        count, total, squares = 0, 0.0, 0.0
        for x in inputs:
            values = self.logarithms(x).double()
            count += values.shape[0] * values.shape[2] * values.shape[3]
            total, squares = total + values.sum((0, 2, 3)), squares + values.square().sum((0, 2, 3))
        mean = torch.as_tensor(total) / count
        deviation = (torch.as_tensor(squares) / count - mean.square()).clamp_min(0).sqrt()
        self.pixel_mean.copy_(mean)
        self.pixel_std.copy_(deviation.clamp_min(1e-3))  # silence has none

    def forward(self, x: Tensor) -> Tensor:
        """Return normalized spectrograms (B, C, bands, columns), of the type of the weights."""
        with torch.autocast(x.device.type, enabled=False):
            values = self.logarithms(x)
            mean, std = (part.float().reshape(1, -1, 1, 1) for part in (self.pixel_mean, self.pixel_std))
            return ((values - mean) / std).to(self.weight.dtype)

    def waveform(self, x: Tensor) -> Tensor:
        """Return the sound of a model input (B, K, t), float32 (B, C, S t), in [-0.5, 0.5]."""
        trim, reach = self.config.trim, self.config.neighbors // 2
        x = x.float()[:, :, trim : x.shape[2] - trim]
        if reach:
            x = pad(x, (reach, reach), mode="circular") if x.shape[2] >= reach else _wrapped(x, reach)
        samples = conv1d(x, self.weight.float(), self.bias.float())
        return samples.unflatten(1, (-1, self.config.block)).transpose(2, 3).flatten(2)

    def logarithms(self, x: Tensor) -> Tensor:
        """Return log-mel spectrograms of a model input, float32 (B, C, bands, columns), before normalization."""
        config = self.config
        sound = self.waveform(x)
        spectrum = torch.stft(
            sound.flatten(0, 1),
            config.transform,
            hop_length=config.hop,
            win_length=config.window,
            window=self._window.float(),
            pad_mode="constant",
            return_complex=True,
        )
        columns = config.columns if sound.shape[2] == config.samples else max(sound.shape[2] // config.hop, 1)
        spectrum = spectrum[:, :, :columns]
        power = spectrum.real.square() + spectrum.imag.square()  # eight times faster than abs().square() on a CPU
        energy = self._filters.float() @ power / self._window.float().square().sum()
        return torch.log(energy + FLOOR).unflatten(0, sound.shape[:2])


def mel_filters(config: SpectrogramConfig) -> np.ndarray:
    """Return triangles on O'Shaughnessy's mel scale from 0 Hz to half the rate, float64 (bands, transform / 2 + 1).

    Each has its peak of 1 where its neighbors reach 0.
    """
    edges = _to_hz(np.linspace(0, _to_mel(config.rate / 2), config.bands + 2))
    bins = np.arange(config.transform // 2 + 1) * config.rate / config.transform
    rise = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.clip(np.minimum(rise, fall), 0, None)


def _fast_size(at_least: int) -> int:
    """Return the next even number without prime factors above 5, which Fourier transforms take in little time."""
    for size in range(at_least + at_least % 2, 2 * at_least + 2, 2):
        rest = size
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return size
    raise AssertionError("a power of two lies in between")


def _to_mel(frequency: Any) -> Any:
    return 2595 * np.log10(1 + np.asarray(frequency) / 700)


def _to_hz(mel: Any) -> Any:
    return 700 * (10 ** (np.asarray(mel) / 2595) - 1)


def _wrapped(x: Tensor, reach: int) -> Tensor:
    """Extend a sound that is shorter than the neighborhood periodically."""
    places = torch.arange(-reach, x.shape[2] + reach, device=x.device) % x.shape[2]
    return x[:, :, places]
