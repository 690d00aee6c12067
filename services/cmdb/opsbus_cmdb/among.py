"""A column's value among many: in the form that a database plans once, whatever their number."""

from sqlalchemy import ColumnElement, Text, any_, bindparam
from sqlalchemy.dialects.postgresql import ARRAY


def among(column: ColumnElement[str], values: list[str], dialect: str) -> ColumnElement[bool]:
    """Whether the column is one of ``values``."""
    if dialect == "postgresql":
        # One parameter: with one for each value every number of them would be another statement to plan.
        return column == any_(bindparam(None, values, type_=ARRAY(Text)))
    return column.in_(values)
