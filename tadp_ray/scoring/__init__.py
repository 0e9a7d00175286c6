"""Scores predictions that lie in files, whoever made them; every file is checked, and all that is wrong is told at once."""

from tadp_ray.scoring.boxes import score_detection as score_detection
from tadp_ray.scoring.maps import score_depth as score_depth
from tadp_ray.scoring.maps import score_segmentation as score_segmentation
