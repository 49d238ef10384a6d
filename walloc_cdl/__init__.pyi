# The public names and where they are defined, for type checkers and lazy_loader, which takes relative imports only.
from .codec import Codec as Codec
from .codec import ResizeCodec as ResizeCodec
from .codec import WallocCodec1D as WallocCodec1D
from .codec import WallocCodec2D as WallocCodec2D
from .codec import load_codec as load_codec
from .data import LatentDataset as LatentDataset
from .data import LatentLoader as LatentLoader
from .data import ModelInput as ModelInput
from .data import open_latents as open_latents
from .errors import CallError as CallError
from .errors import CdlError as CdlError
from .errors import DamagedError as DamagedError
from .spec import LatentSpec as LatentSpec

__version__: str
