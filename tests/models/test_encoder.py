"""An encoder that is made to see another size than it was built for."""

import pytest
import torch

from hilum.images.spec import InputSpec
from hilum.models.encoder import Encoder
from hilum.models.weights import load, to_bytes


@pytest.mark.parametrize("arch", ["resnet18", "vit_tiny_patch16_224"])
def test_an_encoder_can_be_made_to_see_another_size(arch, tmp_path):
    torch.manual_seed(0)
    encoder = Encoder(arch, InputSpec(side=64)).eval()
    small = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        before = encoder(small)
        encoder.see(128, "pad")
        assert (encoder.input.side, encoder.input.fit) == (128, "pad")
        assert encoder.last_map(torch.randn(1, 1, 128, 128)).shape[2:] == (128 // encoder.strides[-1],) * 2
        (tmp_path / "model.safetensors").write_bytes(to_bytes(encoder))
        again = load(tmp_path / "model.safetensors")
        large = torch.randn(1, 1, 128, 128)
        torch.testing.assert_close(again(large), encoder(large))
        if arch == "resnet18":
            torch.testing.assert_close(encoder(small), before)
