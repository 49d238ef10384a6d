"""Data sets to and from the Hugging Face Hub."""

from datasets_prep.hub.card import dataset_card
from datasets_prep.hub.pull import pull
from datasets_prep.hub.push import push

__all__ = ["dataset_card", "pull", "push"]
