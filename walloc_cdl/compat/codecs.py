"""The codec classes of the `walloc` package, as thin layers over the codecs of `walloc_cdl`.

They compute the same as the package, take signals of any range as it does, and differ in three ways only. Signals
shorter than 10 samples at some level are periodic, whereas the package's transform has no inverse there. Sizes that are
not multiples of the stride raise a `CallError` with a remedy, whereas the package fails or returns a signal of another
size. The methods of `Codec`, such as `encode`, `decode` and `latents`, are available as well.

Attributes are those of the package: `channels`, `J`, `freq_bands` (4^J, or 2^J for audio), `Ne`, `Nd`,
`latent_dim`, `latent_bits`, `latent_max`.
"""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from walloc_cdl.codec.families.walloc import WallocCodec
from walloc_cdl.codec.families.walloc_1d import WallocCodec1D, WallocConfig1D
from walloc_cdl.codec.families.walloc_2d import WallocCodec2D, WallocConfig2D
from walloc_cdl.codec.families.walloc_residual import ResidualCodec2D as StagedCodec2D
from walloc_cdl.codec.families.walloc_residual import ResidualConfig2D, Stage
from walloc_cdl.errors import CallError
from walloc_cdl.spec import companded_limit


class _PackageCodec(WallocCodec):
    """Base class of the package's codecs."""

    @classmethod
    def from_files(cls, files: dict[str, bytes], *, origin: str) -> NoReturn:
        """Raise `CallError`: these classes are built from the package's arguments."""
        raise CallError(f"{origin}: {cls.__name__} reads a state_dict only; use load_codec, which reads codec files")

    def check_range(self, signal: Tensor) -> None:
        """Accept every range, as the package does."""

    def _name_attributes(self) -> None:
        config = self.config
        self.channels, self.J = config.channels, config.levels
        self.freq_bands = 2 ** (config.dimensions * config.levels)
        self.latent_dim, self.latent_bits = config.latent_channels, config.bits
        self.latent_max = companded_limit(config.bits)
        self.train()  # a new module of the package is in train mode

    def wavelet_analysis(self, x: Tensor, J: int = 3) -> Tensor:
        """Return packet coefficients of J levels; raise `CallError` unless all sides are multiples of 2^J."""
        for length in x.shape[2:]:
            if length % 2**J:
                raise CallError(f"a side of {length} is not a multiple of {2**J}; pad the signal first")
        # The codec class that this one is combined with implements it; it follows in the method resolution order.
        return super().wavelet_analysis(x, J)  # pyrefly: ignore[abstract-method-call]

    def wavelet_synthesis(self, x: Tensor, J: int = 3) -> Tensor:
        """Return the signal of packet coefficients of J levels, the inverse of `wavelet_analysis`."""
        # The codec class that this one is combined with implements it; it follows in the method resolution order.
        return super().wavelet_synthesis(x, J)  # pyrefly: ignore[abstract-method-call]

    def analysis_one_level(self, x: Tensor) -> Tensor:
        """Apply `wavelet_analysis` with one level."""
        return self.wavelet_analysis(x, 1)

    def synthesis_one_level(self, X: Tensor) -> Tensor:
        """Apply `wavelet_synthesis` with one level."""
        return self.wavelet_synthesis(X, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the clamped decoded signal, its mean squared error before the clamp, and that of the coefficients."""
        coefficients = self.wavelet_analysis(x, self.J)
        decoded = self.decoder(self.encoder(coefficients))
        x_hat = self.synthesize(decoded)
        return self.clamp(x_hat), mse_loss(x, x_hat), mse_loss(coefficients, decoded)


class Codec2D(_PackageCodec, WallocCodec2D):
    """The package's image codec: light or full encoder, network decoder."""

    def __init__(
        self,
        channels: int,
        J: int,
        Ne: int,
        Nd: int,
        latent_dim: int,
        latent_bits: int,
        lightweight_encode: bool,
    ) -> None:
        encoder = {} if lightweight_encode else {"encoder": "full", "encoder_width": Ne}
        decoder = {"decoder": "network", "decoder_width": Nd}
        super().__init__(WallocConfig2D(channels, J, latent_dim, latent_bits, name="Codec2D", **encoder, **decoder))
        self.Ne, self.Nd = Ne, Nd
        self._name_attributes()


class LinearCodec2D(_PackageCodec, WallocCodec2D):
    """The package's image codec with a linear encoder and a linear decoder."""

    def __init__(self, channels: int, J: int, latent_dim: int, latent_bits: int) -> None:
        super().__init__(WallocConfig2D(channels, J, latent_dim, latent_bits, name="LinearCodec2D"))
        self._name_attributes()


class Codec1D(_PackageCodec, WallocCodec1D):
    """The package's audio codec; its latents are two frames longer than T / 2^J."""

    def __init__(
        self,
        channels: int,
        J: int,
        Ne: int,
        Nd: int,
        latent_dim: int,
        latent_bits: int,
        lightweight_encode: bool,
        post_filter: bool,
    ) -> None:
        encoder = {} if lightweight_encode else {"encoder": "full", "encoder_width": Ne}
        super().__init__(
            WallocConfig1D(
                channels,
                J,
                latent_dim,
                latent_bits,
                name="Codec1D",
                **encoder,
                decoder="network",
                decoder_width=Nd,
                padding=1,
                post_filter=bool(post_filter),
            )
        )
        self.Ne, self.Nd = Ne, Nd
        self.lightweight_encode, self.post_filter = lightweight_encode, post_filter
        self._name_attributes()


class ResidualCodec2D(_PackageCodec, StagedCodec2D):
    """The package's image codec of linear stages."""

    def __init__(self, channels: int, J: int, latent_dim: int, latent_bits: int, num_stages: int) -> None:
        super().__init__(
            ResidualConfig2D(channels, J, latent_dim, latent_bits, name="ResidualCodec2D", stages=num_stages)
        )
        self.num_stages = num_stages
        self._name_attributes()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        """Return the clamped decoded image, the sum of the stages' pixel errors, their coefficient and pixel errors."""
        stages = self._run(x)
        tf_losses = [mse_loss(stage.residual, stage.estimate) for stage in stages]
        recon_losses = [
            mse_loss(self.wavelet_synthesis(stage.residual, self.J), self.wavelet_synthesis(stage.estimate, self.J))
            for stage in stages
        ]
        return self._sum(stages), torch.stack(recon_losses).sum(), tf_losses, recon_losses

    def rae_encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the clamped decoded image and the latents of all stages (B, num_stages · latent_dim, h, w)."""
        stages = self._run(x)
        return self._sum(stages), torch.cat([stage.rounded for stage in stages], dim=1)

    def rae_decode(self, latent: Tensor) -> Tensor:
        """Return the clamped image of the latents of all stages."""
        parts = latent.split(self.latent_dim, dim=1)
        estimates = [decoder(self.to_normal(part)) for decoder, part in zip(self.decoders, parts, strict=True)]
        return self.clamp(self.wavelet_synthesis(torch.stack(estimates).sum(0), self.J))

    def _run(self, x: Tensor) -> list[Stage]:
        return self.run_stages(self.wavelet_analysis(x, self.J), self.round)

    def _sum(self, stages: list[Stage]) -> Tensor:
        return self.clamp(self.wavelet_synthesis(torch.stack([stage.estimate for stage in stages]).sum(0), self.J))
