"""What the lowering knows of a module of torch.nn: its configuration, by the names that its class gives it."""

from typing import Any

SKIPPED = {"training", "call_super_init", "dump_patches", "T_destination"}


def config_of(module: Any) -> dict[str, Any]:
    """A module's settings: plain values among its attributes, and the names of its parameters and buffers."""
    plain = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and name not in SKIPPED and _is_plain(value)
    }
    return {
        **plain,
        "parameters": [name for name, value in module.named_parameters() if value is not None],
        "buffers": [name for name, value in module.named_buffers() if value is not None],
    }


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
