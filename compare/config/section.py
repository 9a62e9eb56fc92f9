"""The base of a case's parts."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of a case: frozen, with no fields but its own, of the types that they have."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
