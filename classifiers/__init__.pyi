# The public names and where they are defined, for type checkers and lazy_loader, which takes relative imports only.
from .evaluation.metrics import Metrics as Metrics
from .evaluation.multilabel import MultilabelMetrics as MultilabelMetrics
from .evaluation.predictions import evaluate as evaluate
from .evaluation.predictions import predict as predict
from .evaluation.reading import Reading as Reading
from .evaluation.regression import RegressionMetrics as RegressionMetrics
from .export.write_graph import export_run as export_run
from .hub.pull_run import from_pretrained as from_pretrained
from .hub.push_run import push_run as push_run
from .models.classifier import LatentClassifier as LatentClassifier
from .models.classifier import create_model as create_model
from .runs.load import load_classifier as load_classifier
from .runs.train import RunRecord as RunRecord
from .runs.train import TrainProgress as TrainProgress
from .runs.train import train as train
from .runs.train_config import TrainConfig as TrainConfig
