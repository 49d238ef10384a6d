"""Classifiers with random budgets: trained on prefixes of each row, they serve every rate."""

import pytest
import torch

from classifiers import TrainConfig, create_model, evaluate, load_classifier, predict, train
from tests.classifiers.test_classifier_planes import packed  # noqa: F401
from walloc_cdl.data import LatentLoader, open_latents
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.transforms.budgets import budgets_in_planes, random_budgets

CONFIG = TrainConfig(epochs=1, batch_size=8, precision="fp32")


def test_budgets_follow_from_words_alone():
    words = torch.randint(-(2**62), 2**62, (4000,), generator=torch.Generator().manual_seed(0)).view(torch.uint64)
    drawn = random_budgets(words, (5, 9, 30))
    assert torch.equal(random_budgets(words[1000:1003], (5, 9, 30)), drawn[1000:1003])
    shares = [float((drawn == count).float().mean()) for count in (5, 9, 30)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.03)


@pytest.mark.parametrize("stem", ["synthesis", "channels"])
def test_training_reads_the_prefixes_that_the_words_choose(packed, stem):  # noqa: F811
    dataset = open_latents(packed)
    model = create_model("test_resnet", dataset, stem=stem, grid=16, budgets=(64, 160, 200)).train()
    assert model.config.budgets == budgets_in_planes(dataset.spec, (8, 8), (64, 160, 200)) == (8, 20, 25)
    rows, _, words = next(LatentLoader(dataset, 16).with_words())
    seen = []
    model.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(rows, words)
    model(rows)
    budgets = random_budgets(words, (8, 20, 25))
    assert torch.equal(seen[0], model.input(rows, budgets))
    assert torch.equal(seen[1], model.input(rows))
    assert len(budgets.unique()) == 3
    first = int((budgets == 20).nonzero()[0])
    assert torch.equal(seen[0][first], model.input(rows[first : first + 1, : 20 * 8])[0])


def test_a_saved_model_serves_every_rate(packed, tmp_path):  # noqa: F811
    dataset = open_latents(packed)
    record = train(
        lambda: create_model("test_resnet", dataset, budgets=(64, 200)), dataset, None, CONFIG, tmp_path / "run"
    )
    assert record.config["classifier"]["budgets"] == [8, 25]
    model = load_classifier(tmp_path / "run")
    whole = open_latents(packed, "test")
    for num_planes in (1, 8, 20, whole.spec.num_planes):
        prefix = open_latents(packed, "test", num_planes=num_planes)
        found = predict(model, prefix)
        rows = next(iter(LatentLoader(whole, 16, shuffle=False))).codes
        with torch.inference_mode():
            expected = model(rows[:, : num_planes * 8])
        torch.testing.assert_close(torch.from_numpy(found.logits), expected)
        assert 0 <= evaluate(model, prefix).accuracy <= 1
    with pytest.raises(CallError, match=r"has classifier.budgets"):
        train(lambda: create_model("test_resnet", dataset, budgets=(64,)), dataset, None, CONFIG, tmp_path / "run")


def test_wrong_budgets(packed):  # noqa: F811
    dataset = open_latents(packed)
    with pytest.raises(CallError, match="3 bytes a sample; these latents take 8 to"):
        create_model("test_resnet", dataset, budgets=(3, 64))
    with pytest.raises(CallError, match="no budget in bytes"):
        create_model("test_resnet", dataset, budgets=())
    config = create_model("test_resnet", dataset, budgets=(64,)).config
    damaged = {**config.to_json(), "budgets": [9999]}
    with pytest.raises(DamagedError, match=r"budgets of \(9999,\) of \d+ bit planes"):
        type(config).from_json(damaged, "config.json")
    plain = create_model("test_resnet", dataset)
    with pytest.raises(CallError, match=r"the classifier takes .* bit planes, but .* is read with 8"):
        predict(plain, open_latents(packed, num_planes=8))
