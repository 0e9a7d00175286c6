"""The only room that imports MLflow: ships the journals of cells to it and reads finished cells back."""

import os

from tadp_ray.network import spare_proxy

# MLflow's own defaults wait for minutes on a dead server; what is lost here is sent again by the sender. It also
# reports usage to its makers and prints two lines for every run that ends, unless told not to. What the user has set
# stands.
for _name, _value in {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}.items():
    os.environ.setdefault(_name, _value)
spare_proxy()
