"""Check that a run is resumed with options and images that give the same result."""

from __future__ import annotations

import hashlib
from pathlib import Path

from training.data.fingerprint import has_training_images
from training.errors import CheckpointError
from training.fit.checkpoint import Progress
from training.networks.backbones import family_of
from training.objectives import OBJECTIVES
from training.recipes import Recipe
from training.recipes.weights import Weights

# Fields that choose the images. The fingerprint says whether the images are the same.
IMAGES = ("data", "held_out", "held_out_split")


def check_same_recipe(saved: Progress, recipe: Recipe) -> None:
    """Check that a recipe gives the result of the run to resume, if the images are the same.

    Needs no images. Fields that have no influence on this run can differ: the milestones of
    another schedule, or a batch size above the number of images.

    Raises:
        CheckpointError: A field differs that has an influence.
    """
    before = _effective(saved.recipe, saved.train_images)
    now = _effective(recipe, saved.train_images)
    for field in Recipe.model_fields:
        if before.get(field) != now.get(field):
            has, given = getattr(saved.recipe, field), getattr(recipe, field)
            raise CheckpointError(
                f"{field}: the run to resume has {has}, this one {given}; resume with the same "
                "options or choose another --out"
            )


def check_same_weights(saved: Weights | None, source: str | None, *, keep_head: bool) -> None:
    """Check that weights that are given again are those that the run to resume started from.

    Args:
        saved: Record of the weights in the checkpoint.
        source: Value of `--weights`. A file that is there must be the same one.
        keep_head: True if `--keep-head` is given.

    Raises:
        CheckpointError: They are others, or the head was not kept.
    """
    remedy = "resume with the same options or choose another --out"
    if source is not None:
        file = Path(source)
        if file.is_file():
            same = saved and saved.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
        else:
            same = (source == "none") == (saved is None)
        if not same:
            has = saved.source if saved else "none"
            raise CheckpointError(
                f"weights: the run to resume starts from {has}, and not from {source}; {remedy}"
            )
    if keep_head and not (saved and saved.keep_head):
        raise CheckpointError(f"keep_head: the run to resume has a head of its own; {remedy}")


def check_same_run(saved: Progress, start: Progress) -> None:
    """Check that `start` is the start of the run to resume.

    Raises:
        CheckpointError: The images, or a field of the recipe that has an influence, differ.
    """
    if saved.fingerprint != start.fingerprint:
        raise CheckpointError(
            f"data: the run to resume used other images, labels or split ({_images(saved.recipe)}; "
            f"here: {_images(start.recipe)}); give the same images or choose another --out"
        )
    check_same_recipe(saved, start.recipe)


def moved(saved: Progress, start: Progress) -> str | None:
    """Return a line that says that the same images are read from another place, if they are."""
    if saved.recipe.data == start.recipe.data or saved.fingerprint != start.fingerprint:
        return None
    known = "images" if has_training_images(saved.fingerprint) else "held-out images"
    return (
        f"data: the run to resume read {saved.recipe.data}. The {known} of {start.recipe.data} are "
        "the same"
    )


def _images(recipe: Recipe) -> str:
    held_out = "default" if recipe.held_out is None else recipe.held_out
    return f"--data {recipe.data}, --held-out {held_out}, {recipe.held_out_split}"


def _effective(recipe: Recipe, train_images: int) -> dict[str, object]:
    """Return the fields that have an influence on a run, in one form for each meaning."""
    fields: dict[str, object] = recipe.model_dump(exclude=set(IMAGES))
    shape, options = family_of(recipe.backbone).config, OBJECTIVES[recipe.objective].options
    fields["shape"] = shape.parse(recipe.shape, option="shape", name=recipe.backbone)
    fields["objective_options"] = options.parse(
        recipe.objective_options, option="objective", name=recipe.objective
    )
    if isinstance(recipe.beta, tuple) and len(set(recipe.beta)) == 1:
        fields["beta"] = recipe.beta[0]
    batch = fields["batch_size"] = min(recipe.batch_size, train_images)
    if recipe.micro_batch is not None and recipe.micro_batch >= batch:
        fields["micro_batch"] = None
    for name in _unused(recipe):
        del fields[name]
    return fields


def _unused(recipe: Recipe) -> set[str]:
    """Return the fields that other fields make ineffective."""
    unused = set()
    if recipe.optimizer != "muon":
        unused.add("muon_lr")
    if recipe.surgery_rule == "fixed":
        unused |= {"conflict_scale", "conflict_decay"}
    if recipe.schedule != "multistep":
        unused.add("milestones")
    unused.add("crop_area" if recipe.crop == "shifted" else "shift")
    if recipe.first_size is None:
        unused.add("first_weights")
    if not recipe.small_epochs or recipe.small_size in (None, recipe.size):
        unused |= {"small_size", "small_epochs"}
    return unused
