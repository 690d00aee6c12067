"""Workers that join the platform and leave it: seen in the bucket CATALOG, kept in the store, told to the record."""
