"""What a compiled Keras model is trained with: how it clips, and its loss."""

from typing import Any

import keras


def clipping_of(optimizer: Any) -> dict[str, Any]:
    """Say how an optimizer clips gradients."""
    for attribute, kind in (("global_clipnorm", "global_norm"), ("clipnorm", "norm"), ("clipvalue", "value")):
        limit = getattr(optimizer, attribute, None)
        if limit is not None:
            return {"kind": kind, "limit": float(limit)}
    return {"kind": "none", "limit": None}


def loss_of(model: Any) -> dict[str, Any]:
    """Say which loss a model was compiled with; its name is None where it is the user's own function."""
    loss = keras.losses.get(model.loss) if isinstance(model.loss, str) else model.loss
    if isinstance(loss, keras.losses.Loss):
        config = loss.get_config()
        function = getattr(loss, "fn", None)
        name = getattr(function, "__name__", None)
        arguments = {key: config[key] for key in ("from_logits", "delta") if key in config}
        arguments |= {k: v for k, v in getattr(loss, "_fn_kwargs", {}).items() if k in ("from_logits", "delta")}
        return {"name": name, "arguments": arguments, "class": type(loss).__name__, "reduction": loss.reduction}
    name = getattr(loss, "__name__", None)
    own = loss is not None and getattr(loss, "__module__", "").startswith("keras")
    return {"name": name if own else None, "arguments": {}, "class": name, "reduction": "sum_over_batch_size"}
