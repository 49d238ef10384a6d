"""The codecs themselves: WaLLoC for images, sound and in stages, and resolution reduction."""
