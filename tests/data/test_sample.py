"""A sample tells what its data set does not annotate."""

import numpy as np
import pytest

from tadp_ray.data.sample import Sample
from tadp_ray.errors import UserError

IMAGE = np.zeros((2, 2, 3), np.uint8)


def test_a_missing_ground_truth_is_named() -> None:
    sample = Sample("street", IMAGE, mask=np.array([[1, 2], [3, 4]], np.uint8))
    assert sample.truth("mask").tolist() == [[1, 2], [3, 4]]
    with pytest.raises(UserError, match="sample 'street' has no depth"):
        sample.truth("depth")


@pytest.mark.parametrize(("given", "difficult"), [(None, [False, False]), (np.array([True, False]), [True, False])])
def test_no_box_is_difficult_where_the_data_set_does_not_say(given: np.ndarray | None, difficult: list[bool]) -> None:
    boxes = np.array([[0, 0, 1, 1], [0, 1, 2, 2]], np.float32)
    found = Sample("a", IMAGE, boxes=boxes, box_classes=np.array([3, 1]), difficult=given).objects()
    assert [each.tolist() for each in found] == [boxes.tolist(), [3, 1], difficult]


def test_boxes_need_their_classes() -> None:
    with pytest.raises(UserError, match="sample 'a' has no box_classes"):
        Sample("a", IMAGE, boxes=np.zeros((1, 4), np.float32)).objects()
