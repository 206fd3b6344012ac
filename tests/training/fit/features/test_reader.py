"""A network that reads stored features has the logits and the heads of the network behind it."""

import torch

from tests.training.families import small_network
from tests.training.samples import tiny_dataset
from training.fit.features.layout import layout_of, trunk_features
from training.fit.features.reader import feature_reader
from training.networks.predict import predict


def test_logits_from_features_are_those_from_images() -> None:
    network = small_network("efficientnet_lite").eval()
    pixels = tiny_dataset().held_out.pixels[:8]
    layout = layout_of(network, 32)
    rows = layout.pack(trunk_features(network, network.normalize(pixels)))
    reader = feature_reader(network, layout)
    torch.testing.assert_close(predict(reader, rows), predict(network, pixels))
    from_float16 = predict(reader, rows.to(torch.float16))
    torch.testing.assert_close(from_float16, predict(network, pixels), atol=1e-2, rtol=1e-2)


def test_training_the_reader_trains_the_heads_of_the_network_alone() -> None:
    network = small_network("efficientnet_lite")
    reader = feature_reader(network, layout_of(network.eval(), 32))
    assert {id(p) for p in reader.parameters()} == {id(p) for p in network.heads.parameters()}
