import pytest

from experiments.throughput import LoadBenchmark, measure_loading
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.latents import verify


def test_every_way_of_reading_has_a_rate(tmp_path):
    result = measure_loading(num_bytes=4_000_000, batch_size=64, repeats=1, folder=tmp_path)
    rates = {name: value for name, value in result.items() if name.endswith("samples_per_s")}
    assert rates.keys() == {
        f"{name}_samples_per_s" for name in ("index_select", "index_select_1_thread", "mmap", "ram")
    }
    assert all(rate > 0 for rate in rates.values())
    assert result["num_samples"] == 4_000_000 // (12 * 32 * 32)
    assert list(tmp_path.iterdir()) == []  # the made-up data set is gone


@pytest.mark.parametrize("latent_shape", [(3, 16, 16), (3, 256)])
def test_the_made_up_data_set_is_a_real_one(tmp_path, latent_shape):
    from experiments.throughput import write_synthetic

    write_synthetic(tmp_path, LoadBenchmark(num_bytes=200_000, latent_shape=latent_shape, shard_bytes=80_000))
    assert verify(tmp_path, full=True).problems == []
    assert len(open_latents(tmp_path)) == 200_000 // 768


@pytest.mark.parametrize("setting", ["num_bytes", "batch_size", "repeats"])
def test_settings_out_of_range(setting):
    with pytest.raises(CallError, match=f"{setting} is 0; it must be at least"):
        measure_loading(**{setting: 0})
