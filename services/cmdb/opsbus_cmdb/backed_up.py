"""What ``opsbus backup`` takes of this service: its embedded store."""

from opsbus.backup.stores import Store
from opsbus_cmdb.migrations.upgrade import migrate
from opsbus_cmdb.tables import metadata

store = Store("cmdb", metadata, create=migrate)
