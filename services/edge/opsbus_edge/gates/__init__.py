"""One gate per file, one function per gate. Their order is visible in pipeline.py."""
