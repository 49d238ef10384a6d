"""Chains of URLs, which fsspec knows, are refused in one line; they would be taken for paths."""

from __future__ import annotations

import pytest

from datasets_prep.sources import open_stream
from tests.support.reading_sources import message
from walloc_cdl.errors import CallError

SCHEMES = ("audiofolder", "csv", "hf", "imagefolder", "imagenet", "mat", "npy", "parquet", "webdataset")
CHAINS = ("simplecache::s3://bucket/photos", "zip://*.jpg::https://h/photos.zip", "filecache::zip://a::memory://b.zip")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("chain", CHAINS)
def test_chains_are_refused(scheme, chain):
    said = f"{chain!r} is a chain of URLs; give the URL of the files themselves, or download them, and name their local"
    assert message(f"{scheme}:{chain}").startswith(said)
    assert message(chain).startswith(said)
    with pytest.raises(CallError, match="is a chain of URLs"):
        open_stream(f"hf:{chain}?streaming=1")
