"""The data set format: shards, the manifest, statistics and verification. `docs/format.md` specifies it."""

from walloc_cdl.latents.checks.verify import DamagedSample, VerifyReport, verify
from walloc_cdl.latents.copies import copy_listed, copy_path, write_copies
from walloc_cdl.latents.labels import LABEL_KINDS, UNKNOWN_LABEL, LabelSpec
from walloc_cdl.latents.layout import SampleLayout
from walloc_cdl.latents.manifest import (
    COPY_FOLDER,
    EDIT_NAME,
    FORMAT_VERSION,
    LEDGER_NAME,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    PROVENANCE_NAME,
    WORK_NAME,
    FileEntry,
    Manifest,
    ShardEntry,
    SplitSummary,
)
from walloc_cdl.latents.manifest_file import load_manifest, manifest_bytes, manifest_from_json, parse_manifest
from walloc_cdl.latents.provenance import load_provenance, write_provenance
from walloc_cdl.latents.shard import Shard, open_shard
from walloc_cdl.latents.statistics import ChannelStatistics, channel_statistics, code_histogram
from walloc_cdl.latents.writer import ShardWriter, write_manifest, write_shard

__all__ = [
    "COPY_FOLDER",
    "EDIT_NAME",
    "FORMAT_VERSION",
    "LABEL_KINDS",
    "LEDGER_NAME",
    "MANIFEST_NAME",
    "MAX_MANIFEST_BYTES",
    "PROVENANCE_NAME",
    "UNKNOWN_LABEL",
    "WORK_NAME",
    "ChannelStatistics",
    "DamagedSample",
    "FileEntry",
    "LabelSpec",
    "Manifest",
    "SampleLayout",
    "Shard",
    "ShardEntry",
    "ShardWriter",
    "SplitSummary",
    "VerifyReport",
    "channel_statistics",
    "code_histogram",
    "copy_listed",
    "copy_path",
    "load_manifest",
    "load_provenance",
    "manifest_bytes",
    "manifest_from_json",
    "open_shard",
    "parse_manifest",
    "verify",
    "write_copies",
    "write_manifest",
    "write_provenance",
    "write_shard",
]
