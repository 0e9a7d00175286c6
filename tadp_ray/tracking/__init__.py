"""Sends the journals of cells to MLflow and reads finished cells back. Only this package imports MLflow."""

import os

from tadp_ray.network import bypass_proxy

# By default MLflow waits for minutes on a dead server; here the sender retries instead. It also sends telemetry and prints
# two lines for every run that ends. Variables that the user has set are kept.
for _name, _value in {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}.items():
    os.environ.setdefault(_name, _value)
bypass_proxy()
