"""``opsbus doctor``: is the platform well? Checks that only look, each with a line and, when it hurts, a hint."""
