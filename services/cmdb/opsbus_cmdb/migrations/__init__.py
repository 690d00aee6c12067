"""The store's schema over time: alembic revisions in `versions`, and the step to the newest in `upgrade`."""
