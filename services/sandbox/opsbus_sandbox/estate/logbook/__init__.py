"""What the software of the estate writes to its logs."""
