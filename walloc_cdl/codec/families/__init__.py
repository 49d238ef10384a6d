"""The codec families: WaLLoC for images, audio and in stages, and resolution reduction."""
