"""Recorded reads, sent again to a candidate version of a worker; differences in results and latency."""
