"""What opsbus costs, measured side by side in one run: ``make bench``. Nothing here is part of a release."""
