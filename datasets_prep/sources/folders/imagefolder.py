"""Folders of images: a folder for each class, and above them, if wanted, one for each split."""

from __future__ import annotations

from datasets_prep.sources.core.source import Source
from datasets_prep.sources.folders.local_folder import FileFolder, FileNoun
from walloc_cdl.addresses import is_url

IMAGE_TYPES = "avif bmp gif jfif jp2 jpe jpeg jpg pbm pgm png pnm ppm tif tiff webp"
IMAGE_SUFFIXES = frozenset(f".{name}" for name in IMAGE_TYPES.split())


class ImageFolder(FileFolder):
    """Images below a folder; see `FileFolder` for classes and splits."""

    noun = FileNoun("an", "image", "IMAGE", IMAGE_SUFFIXES)


def open_images(text: str) -> Source:
    """The source `imagefolder:…`: a folder, or the URL of one."""
    if is_url(text):
        from datasets_prep.sources.folders.remote_folder import RemoteFolder

        return RemoteFolder(text, ImageFolder.noun)
    return ImageFolder(text)
