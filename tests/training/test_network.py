import torch

from training.network import Normalize


def test_normalize_takes_stored_images_to_what_the_first_stage_reads() -> None:
    normalize = Normalize()
    normalize.mean.copy_(torch.tensor([0.5, 0.25, 0.0]))
    normalize.std.copy_(torch.tensor([0.5, 0.25, 1.0]))
    pixels = torch.tensor([255, 0, 51], dtype=torch.uint8).expand(1, 2, 4, 3)
    out = normalize(pixels)
    assert out.shape == (1, 3, 2, 4)
    torch.testing.assert_close(out[0, :, 1, 2], torch.tensor([1.0, -1.0, 0.2]))
