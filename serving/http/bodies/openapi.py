"""The schemas of request bodies in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from offramp.bundle.manifest import ImageInput

BASE64 = r"^(data:[A-Za-z0-9/+.;=_-]{0,200};base64,)?[A-Za-z0-9+/_\r\n-]+={0,2}[\r\n]*$"
Schema = dict[str, Any]


def body_schemas(target: ImageInput, max_images: int, max_bytes: int) -> dict[str, Schema]:
    """Return the schemas of request bodies by name, with the bounds of this server.

    Args:
        target: Input of the model.
        max_images: Largest number of images in one call.
        max_bytes: Largest size of one body, in bytes.
    """
    file = {"type": "string", "format": "binary", "minLength": 1, "maxLength": max_bytes}
    files, texts = _list(file, max_images), _list(_base64(max_bytes), max_images)
    return {
        "ImageFile": file | {"description": "an image file"},
        "Pixels": file | _pixels(target, max_images),
        "ClassifyForm": _object(files, "image files, each with a file name"),
        "ClassifyImages": _object(texts, "image files in JSON"),
    }


def _base64(max_bytes: int) -> Schema:
    return {
        "type": "string",
        "contentEncoding": "base64",
        "pattern": BASE64,
        "minLength": 4,
        "maxLength": max_bytes,
        "description": "an image file as base64, which can have line ends, or as a data URI",
    }


def _pixels(target: ImageInput, max_images: int) -> Schema:
    size = target.height * target.width * 3
    return {
        "minLength": size,
        "maxLength": max_images * size,
        "description": f"uint8 [n, {target.height}, {target.width}, 3], RGB, C order: "
        f"{size} bytes for each of 1 to {max_images} images",
    }


def _list(items: Schema, max_images: int) -> Schema:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": max_images}


def _object(images: Schema, description: str) -> Schema:
    return {
        "type": "object",
        "properties": {"images": images},
        "required": ["images"],
        "additionalProperties": False,
        "description": description,
    }
