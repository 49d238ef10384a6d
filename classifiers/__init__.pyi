# The public names and where they are defined, for type checkers and lazy_loader, which takes relative imports only.
from .evaluation import evaluate as evaluate
from .evaluation import predict as predict
from .load import load_classifier as load_classifier
from .metrics import Metrics as Metrics
from .model import LatentClassifier as LatentClassifier
from .model import create_model as create_model
from .train_config import TrainConfig as TrainConfig
from .training import RunRecord as RunRecord
from .training import TrainProgress as TrainProgress
from .training import train as train
