"""What classifiers of sound see: a waveform of the latents, and its log-mel spectrogram."""
