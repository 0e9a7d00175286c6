"""`python -m tadp_ray`: the same as `tadp-ray`."""

from tadp_ray.cli import app

if __name__ == "__main__":
    app(prog_name="tadp-ray")
