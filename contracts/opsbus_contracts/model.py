"""The base of every message model: readers ignore what they do not know, so that additions never break them."""

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """A message on the bus. Unknown fields are ignored on reading (contracts evolve by addition)."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True, serialize_by_alias=True)
