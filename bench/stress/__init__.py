"""What the front door does when too much is asked of it, for long, or by many: overload, soak, memory."""
