"""Reading latents: the data set, its batches on the device, and the model input that is computed from them."""

from walloc_cdl.data.batch import LatentBatch, LatentSample
from walloc_cdl.data.dataset import LatentDataset, as_latents, open_latents
from walloc_cdl.data.files import DataFiles, open_files
from walloc_cdl.data.loader import LatentLoader
from walloc_cdl.data.model_input import ModelInput
from walloc_cdl.data.remote import RemoteFolder
from walloc_cdl.data.sampler import GlobalBatches
from walloc_cdl.latents import ChannelStatistics

__all__ = [
    "ChannelStatistics",
    "DataFiles",
    "GlobalBatches",
    "LatentBatch",
    "LatentDataset",
    "LatentLoader",
    "LatentSample",
    "ModelInput",
    "RemoteFolder",
    "as_latents",
    "open_files",
    "open_latents",
]
