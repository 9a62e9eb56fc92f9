"""What a session writes down: arrays that are copies, and a loss whose arguments are seen."""

from typing import Any

import numpy as np
import torch


class LossWrapper:
    """A user's loss whose arguments are seen; attributes are those of the loss."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __call__(self, prediction: Any, target: Any, *rest: Any, **options: Any) -> Any:
        """Compute the loss, or what it was changed to."""
        session = self._session
        prediction, target = session.loss_arguments(prediction, target)
        if session.new_loss is not None:
            return session.new_loss(prediction, target)
        return session.user_loss(prediction, target, *rest, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session.user_loss, name)


def copied_or_none(tensor: Any) -> np.ndarray | None:
    """As `copied`; None for None."""
    return None if tensor is None else copied(tensor)


def copied(tensor: torch.Tensor) -> np.ndarray:
    """The numbers of a tensor now, half precision as float32."""
    tensor = tensor.detach()
    if tensor.is_sparse:
        tensor = tensor.to_dense()
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    return tensor.cpu().numpy().copy()
