"""The links `current` and `previous` of a model: changed by one rename each, durable when a call returns."""

import os

from .atomic import fsync_folder

__all__ = ["clear_unfinished", "point"]


def point(models: str, model: str, name: str, identity: str) -> None:
    """Make the link `name` of `model` in the folder `models` point to a release, or remove it for ""; OSError."""
    folder = os.path.join(models, model)
    if not os.path.isdir(folder):
        if not identity:
            return
        os.makedirs(folder, mode=0o700, exist_ok=True)
        fsync_folder(models)
    path = os.path.join(folder, name)
    if identity:
        _replace(path, os.path.join("..", "..", "releases", identity + ".json"))
    elif os.path.lexists(path):
        os.unlink(path)
    fsync_folder(folder)  # also when nothing was changed just now: whoever changed it may have been cut off before this


def _replace(path: str, target: str) -> None:
    folder, name = os.path.split(path)
    if os.path.islink(path) and os.readlink(path) == target:
        return
    temp = os.path.join(folder, ".tmp-" + name)
    if os.path.lexists(temp):
        os.unlink(temp)
    os.symlink(target, temp)
    os.replace(temp, path)


def clear_unfinished(models: str) -> None:
    """Remove the links that a switch which was cut short had not yet renamed; OSError when one can't be."""
    for model in os.listdir(models):
        for name in ("current", "previous"):
            path = os.path.join(models, model, ".tmp-" + name)
            if os.path.lexists(path):
                os.unlink(path)
