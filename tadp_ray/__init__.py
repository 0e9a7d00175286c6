"""tadp_ray: what does text do to a diffusion backbone? Text-conditioned diffusion perception, swept and tabled."""

import logging
import os

# albumentations asks the network for news of itself when it is imported, in every worker.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
# What is logged is for whoever asks for it, as --debug does.
logging.getLogger("tadp_ray").addHandler(logging.NullHandler())

__version__ = "0.1.0"
