"""Codecs by `hub:OWNER/REPO[/FILE]`, and the three methods of the Hub mixin, without a network."""

import pytest
import torch
from huggingface_hub import errors as hub_errors

from walloc_cdl.codec import Codec, ResizeCodec, WallocCodec1D, WallocCodec2D, load_codec
from walloc_cdl.codec.families.walloc_1d import WallocConfig1D
from walloc_cdl.codec.hub_mixin import HubMixin
from walloc_cdl.errors import CallError, DamagedError, JobError

REPO = "someone/codecs"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder that acts as a repository for downloads."""
    folder = tmp_path / "hub"
    folder.mkdir()

    def fake_download(repo_id, filename, **options):
        if repo_id != REPO:
            response = type("Response", (), {"headers": {}, "request": None, "status_code": 404})()
            raise hub_errors.RepositoryNotFoundError("404", response=response)
        if not (folder / filename).is_file():
            raise hub_errors.EntryNotFoundError("404")
        return str(folder / filename)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fake_download)
    return folder


def audio_codec():
    torch.manual_seed(0)
    return WallocCodec1D(WallocConfig1D(channels=2, levels=3, latent_channels=4, name="two"))


def test_a_codec_is_saved_to_a_folder_and_read_back(tmp_path):
    codec = audio_codec()
    codec.save_pretrained(tmp_path / "codec")
    again = WallocCodec1D.from_pretrained(tmp_path / "codec")
    assert again.files() == codec.files()
    assert not again.training
    assert load_codec(tmp_path / "codec").spec == codec.spec
    with pytest.raises(CallError, match="codec type 'walloc-1d'; expected 'walloc-2d'; use load_codec"):
        WallocCodec2D.from_pretrained(tmp_path / "codec")
    with pytest.raises(CallError, match="Codec is an abstract class; use load_codec"):
        Codec.from_pretrained(tmp_path / "codec")
    (tmp_path / "codec" / "thesis.tex").write_text("x")
    with pytest.raises(CallError, match=r"holds other files \(thesis.tex\); give a new folder"):
        codec.save_pretrained(tmp_path / "codec")


def test_a_repository_holds_one_codec_at_its_top_or_many_in_folders(hub):
    codec = audio_codec()
    codec.save_pretrained(hub)
    assert load_codec(f"hub:{REPO}").files() == codec.files()
    assert WallocCodec1D.from_pretrained(REPO).files() == codec.files()
    (hub / "small").mkdir()
    load_codec("resize-rgb-4x").save_pretrained(hub / "small")
    assert isinstance(load_codec(f"hub:{REPO}/small"), ResizeCodec)


def test_names_that_do_not_exist_are_refused(hub):
    with pytest.raises(CallError, match=r"someone/codecs has no config.json; https://huggingface.co/someone/codecs"):
        load_codec(f"hub:{REPO}")
    with pytest.raises(
        CallError, match=r"has neither RGB_16x.json, of a published checkpoint, nor RGB_16x/config.json"
    ):
        load_codec(f"hub:{REPO}/RGB_16x.pth")
    with pytest.raises(CallError, match="the Hub has no repository no/body that you may read; check its name"):
        load_codec("hub:no/body")
    for name in ("hub:", "hub:alone", "hub:a/b/../c", "hub:/a/b", "hub:a/b/"):
        with pytest.raises(CallError, match=r"expected hub:OWNER/REPO or hub:OWNER/REPO/FILE"):
            load_codec(name)


@pytest.mark.parametrize(
    "error",
    [hub_errors.LocalEntryNotFoundError("offline"), hub_errors.OfflineModeIsEnabled("off"), OSError("no route")],
)
def test_the_error_without_a_network_has_a_remedy(error, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(
        JobError, match=r"RGB_16x.json of danjacobellis/walloc is not in the cache and the Hub cannot be "
    ):
        load_codec("hub:danjacobellis/walloc/RGB_16x")


def test_a_damaged_download_is_refused(hub):
    audio_codec().save_pretrained(hub)
    (hub / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DamagedError, match=f"hub:{REPO}: model.safetensors cannot be read"):
        load_codec(f"hub:{REPO}")


def test_pushing_creates_the_repository_and_uploads_both_files(monkeypatch, tmp_path):
    calls = {}

    class FakeApi:
        def __init__(self, token=None):
            calls["token"] = token

        def create_repo(self, repo_id, private, exist_ok):
            calls["create"] = (repo_id, private, exist_ok)
            return type("Url", (), {"repo_id": f"someone/{repo_id}"})()

        def upload_folder(self, *, repo_id, folder_path, commit_message, revision, create_pr):
            calls["upload"] = (repo_id, sorted(path.name for path in __import__("pathlib").Path(folder_path).iterdir()))
            return type("Commit", (), {"commit_url": f"https://huggingface.co/{repo_id}/commit/1"})()

    monkeypatch.setattr("huggingface_hub.HfApi", FakeApi)
    address = audio_codec().save_pretrained(tmp_path / "two", push_to_hub=True, private=True, token="t")
    assert address == "https://huggingface.co/someone/two/commit/1"
    assert calls == {
        "token": "t",
        "create": ("two", True, True),
        "upload": ("someone/two", ["config.json", "model.safetensors"]),
    }


def test_the_methods_take_the_arguments_of_the_mixin():
    import inspect

    from huggingface_hub import ModelHubMixin

    for name in ("save_pretrained", "from_pretrained", "push_to_hub"):
        expected = set(inspect.signature(getattr(ModelHubMixin, name)).parameters)
        found = set(inspect.signature(getattr(HubMixin, name)).parameters)
        assert found <= expected | {"push_to_hub_kwargs"}, name
