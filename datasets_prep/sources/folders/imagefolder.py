"""Folders of images: one folder per class, optionally inside one folder per split."""

from __future__ import annotations

from datasets_prep.sources.core.source import Source
from datasets_prep.sources.folders.catalog import FileKind
from datasets_prep.sources.folders.local_folder import FileFolder, folder_options
from walloc_cdl.addresses import is_url

IMAGE_TYPES = "avif bmp gif jfif jp2 jpe jpeg jpg pbm pgm png pnm ppm tif tiff webp"
IMAGE_SUFFIXES = frozenset(f".{name}" for name in IMAGE_TYPES.split())


class ImageFolder(FileFolder):
    """The images in a folder and its subfolders; see `FileFolder` for classes and splits."""

    file_kind = FileKind("an", "image", "IMAGE", IMAGE_SUFFIXES)


def open_images(text: str) -> Source:
    """Open the source `imagefolder:…`; `text` is the path or URL of a folder, with the option `splits`."""
    if is_url(text):
        from datasets_prep.sources.folders.remote_folder import RemoteFolder

        # the path of a URL may contain any other question mark
        url, splits = folder_options(text) if "?splits=" in text else (text, None)
        return RemoteFolder(url, ImageFolder.file_kind, splits=splits)
    folder, splits = folder_options(text)
    return ImageFolder(folder, splits=splits)
