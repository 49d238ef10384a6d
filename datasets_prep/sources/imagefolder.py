"""Folders of images: a folder for each class, and above them, if wanted, one for each split."""

from __future__ import annotations

from datasets_prep.sources.folders import FileFolder, FileNoun

IMAGE_TYPES = "avif bmp gif jfif jp2 jpe jpeg jpg pbm pgm png pnm ppm tif tiff webp"
IMAGE_SUFFIXES = frozenset(f".{name}" for name in IMAGE_TYPES.split())


class ImageFolder(FileFolder):
    """Images below a folder; see `FileFolder` for classes and splits."""

    noun = FileNoun("an", "image", "IMAGE", IMAGE_SUFFIXES)
