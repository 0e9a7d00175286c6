"""`python -m tadp_ray.sweep experiments/prec_recall.yaml` does the same as `tadp-ray sweep`."""

import sys

from tadp_ray.cli import app

if __name__ == "__main__":
    app(["sweep", *sys.argv[1:]], prog_name="tadp-ray")
