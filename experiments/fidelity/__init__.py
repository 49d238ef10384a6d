"""What stored images keep for a classifier: a frozen network sees the restored images in place of the originals."""
