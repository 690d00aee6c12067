"""Freeze and maintenance windows: which of them cover an asset. Reading them from a database is change_store's
matter."""

from opsbus_cmdb.model import Asset, Window


def covers(window: Window, asset: Asset) -> bool:
    """Whether every entry of the selector is true of the asset. `label.<key>` reads a label, anything else a field."""
    return all(_value(asset, key) == wanted for key, wanted in window.selector.items())


def _value(asset: Asset, key: str) -> str | None:
    if key.startswith("label."):
        return asset.labels.get(key.removeprefix("label."))
    value = getattr(asset, key, None)
    return None if value is None else str(value)
