"""Folders and zip archives of images: one folder per class, optionally inside one folder per split."""

from __future__ import annotations

from datasets_prep.sources.core.options import flag, optional_flag, split_options
from datasets_prep.sources.core.source import Source
from datasets_prep.sources.folders.catalog import FileKind
from datasets_prep.sources.folders.local_folder import FileFolder, folder_options, is_zip
from walloc_cdl.addresses import is_url

IMAGE_TYPES = "avif bmp gif jfif jp2 jpe jpeg jpg pbm pgm png pnm ppm tif tiff webp"
IMAGE_SUFFIXES = frozenset(f".{name}" for name in IMAGE_TYPES.split())


class ImageFolder(FileFolder):
    """The images in a folder and its subfolders; see `FileFolder` for classes and splits."""

    file_kind = FileKind("an", "image", "IMAGE", IMAGE_SUFFIXES)


def open_images(text: str) -> Source:
    """Open the source `imagefolder:…`; `text` is the path or URL of a folder or of a zip archive, with options.

    The options are `splits`, and for archives at http(s) URLs `public`.
    """
    if is_url(text):
        # the path of a URL may contain any other question mark
        has_options = text.rpartition("?")[2].startswith(("splits=", "public="))
        url, options = split_options(text, ("splits", "public")) if has_options else (text, {})
        splits, public = optional_flag(options, "splits"), flag(options, "public")
        if url.partition("?")[0].lower().endswith(".zip"):
            from datasets_prep.sources.folders.zip_folder import ZipFolder

            return ZipFolder(url, ImageFolder.file_kind, splits=splits, public=public)
        from datasets_prep.sources.folders.remote_folder import RemoteFolder

        return RemoteFolder(url, ImageFolder.file_kind, splits=splits)
    path, splits = folder_options(text)
    if is_zip(path):
        from datasets_prep.sources.folders.zip_folder import ZipFolder

        return ZipFolder(path, ImageFolder.file_kind, splits=splits)
    return ImageFolder(path, splits=splits)
