"""Asks a side for a GPU that is not there."""

import importlib


def error_of_missing_gpu(side: str) -> str:
    """What a side says where it is asked for a GPU that is not there; empty if nothing."""
    package = importlib.import_module("torch_models" if side == "torch" else "keras_models")
    try:
        package.place(package.build(cell="lstm", units=2), "cuda")
    except RuntimeError as error:
        return str(error)
    return ""
