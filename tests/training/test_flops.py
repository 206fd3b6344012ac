from training.backbones import build_network
from training.flops import flops_to_exits


def test_the_papers_cifar_network() -> None:
    """Half of what torch's counter gives for the released network, in millions."""
    network = build_network("msdnet", {}, classes=100)
    millions = [round(flops / 1e6, 2) for flops in flops_to_exits(network, size=32)]
    assert millions == [56.03, 100.41, 154.56, 197.23, 248.56, 297.0, 339.55]
    assert network.training, "counting must leave the mode alone"
