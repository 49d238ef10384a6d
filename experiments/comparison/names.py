"""What metrics are called in sentences and tables."""

METRIC_NAMES = {"auc": "AUC", "accuracy": "accuracy"}
