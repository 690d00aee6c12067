"""What ``opsbus backup`` takes of this service: its store."""

from opsbus.backup.stores import Store
from opsbus_audit.tables import metadata

store = Store("audit", metadata)
