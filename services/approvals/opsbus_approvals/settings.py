"""The worker's settings: those that every worker has."""

from opsbus import Settings


class ApprovalsSettings(Settings):
    """Environment ``OPSBUS_APPROVALS_*``, section ``approvals`` of the file."""
