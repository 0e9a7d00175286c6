"""The depth head cuts the padding off the features, as the published code does with NYUv2's views of 480 pixels."""

import pytest
import torch

from tadp_ray.errors import UserError
from tadp_ray.tasks.depth.config import DepthHeadConfig
from tadp_ray.tasks.depth.vpd_head import DepthHead

CHANNELS, STRIDES, SMALL = (16, 16, 16, 16), (8, 16, 32, 64), {"fused": 16, "deconvolved": 8, "channels": 8}


def head(**changes: int) -> DepthHead:
    """A small head with the same weights whatever is changed."""
    torch.manual_seed(0)
    made = DepthHead(CHANNELS, STRIDES, 0, DepthHeadConfig(kind="vpd_depth", **SMALL, **changes)).eval()
    with torch.no_grad():
        # The first weights are so small that every pixel is at half the maximum depth.
        for weight in made.decode.parameters():
            weight.mul_(300)
    return made


def test_features_of_the_padding_are_not_decoded() -> None:
    """A view of 96 x 96, padded to 128: the fused level has 4 x 4 places, of which 3 x 3 are decoded."""
    features = [torch.randn(1, 16, 128 // stride, 128 // stride) for stride in STRIDES]
    whole, cropped = head(), head(unpadded=96)
    decoded = []
    cropped.decode.register_forward_hook(lambda _, given, out: decoded.append((given[0], out)))
    with torch.no_grad():
        metres, decoded_whole = cropped(features), whole(features)
    assert metres.shape == decoded_whole.shape == (1, 1, 128, 128)
    given, out = decoded[0]
    assert given.shape[-2:] == (3, 3) and out.shape[-2:] == (96, 96)
    assert torch.equal(metres[..., :96, :96], out.sigmoid() * 10)
    # Its edge is decoded without the padding's features, and what was cut off repeats it.
    assert not torch.equal(metres[..., 95, :96], decoded_whole[..., 95, :96])
    assert torch.equal(metres[..., 95, :96], metres[..., 127, :96])
    wide = [torch.randn(1, 16, 128 // stride, 192 // stride) for stride in STRIDES]
    assert cropped(wide).shape == (1, 1, 128, 192)


def test_an_unpadded_size_that_is_no_multiple_is_refused() -> None:
    with pytest.raises(UserError, match=r"model.head.unpadded=100: must be a multiple of 32.*try 96"):
        head(unpadded=100)
