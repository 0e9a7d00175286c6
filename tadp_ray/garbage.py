"""How often Python collects garbage in a process of tadp_ray's own."""

import gc


def collect_rarely() -> None:
    """Search all objects for garbage after 1.4 million new ones, not after 70,000. New ones are searched as often as ever.

    Importing torch, diffusers, Ray and MLflow makes 600,000 objects that stay. Python would search them nine times meanwhile,
    which is a fifth of the time that a command takes to start.
    """
    newest, new, _ = gc.get_threshold()
    gc.set_threshold(newest, new, 200)
