"""Watercolor2k and Comic2k are scored under the class indices of the Pascal detector."""

from pathlib import Path

import numpy as np
import pytest

from tadp_ray.config.data import PublishedData
from tadp_ray.data.datasets import open_dataset, published_datasets


@pytest.mark.parametrize("kind", ["watercolor2k", "comic2k"])
def test_a_real_annotation_keeps_pascals_class_index(shared: Path, put, tmp_path: Path, kind: str) -> None:
    """The annotation of a Watercolor2k test picture of 600 x 424 pixels; the picture itself is not needed."""
    put("art/ImageSets/Main/test.txt", "43248445\n")
    put("art/Annotations/43248445.xml", shared / "data/art_xml_samples/43248445.xml")
    put("art/JPEGImages/43248445.jpg", np.zeros((424, 600, 3), np.uint8))
    data = PublishedData(
        kind="pascal_detection", root=tmp_path / "VOCdevkit", target_domain={"kind": kind, "root": tmp_path / "art"}
    )
    val = open_dataset(data, "val")
    assert val.classes == published_datasets()["pascal_detection"].classes and val.ids == ("43248445",)
    assert val.present(0) == ("person",) and val[0].box_classes.tolist() == [val.classes.index("person")] == [14]
    assert val[0].boxes.tolist() == [[66, 54, 495, 424]] and not val[0].difficult.any()
