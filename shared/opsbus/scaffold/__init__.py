"""``opsbus new worker``: writes the folder of a new worker."""
