"""A data set that encodes, in a module that workers started by `spawn` can import."""

from torch.utils.data import Dataset


class EncodingSet(Dataset):
    """Encodes one signal with each codec, in the process that reads the item."""

    def __init__(self, codecs, signals):
        self.codecs, self.signals = codecs, signals

    def __len__(self):
        return len(self.codecs)

    def __getitem__(self, index):
        return self.codecs[index].encode(self.signals[index])
