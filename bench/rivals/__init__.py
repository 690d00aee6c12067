"""What opsbus is compared with. Each answers one tool, ``demo_echo``, as its own documentation would have it."""
