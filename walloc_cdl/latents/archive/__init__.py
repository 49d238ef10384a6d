"""Entropy-coded archives of single latents. `docs/archives.md` specifies them."""

from walloc_cdl.latents.archive.archive import (
    Archive,
    archive_from_bytes,
    archive_to_bytes,
    codes_from_picture,
    picture_to_bytes,
    read_info,
)
from walloc_cdl.latents.archive.containers import (
    CONTAINERS,
    Container,
    container_of_name,
    default_container,
    find_container,
)
from walloc_cdl.latents.archive.metadata import ArchiveInfo

__all__ = [
    "CONTAINERS",
    "Archive",
    "ArchiveInfo",
    "Container",
    "archive_from_bytes",
    "archive_to_bytes",
    "codes_from_picture",
    "container_of_name",
    "default_container",
    "find_container",
    "picture_to_bytes",
    "read_info",
]
