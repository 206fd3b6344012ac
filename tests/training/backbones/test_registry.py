import pytest

from training.backbones import build_network
from training.errors import RecipeError


def test_unknown_backbone_names_those_there_are() -> None:
    with pytest.raises(RecipeError, match=r"'resnet'.*msdnet"):
        build_network("resnet", {}, 10)


@pytest.mark.parametrize("shape", [{"exit": 3}, {"exits": 0}, {"growth_factors": [1, 2]}])
def test_a_wrong_field_is_named(shape: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match=r"^shape"):
        build_network("msdnet", shape, 10)
