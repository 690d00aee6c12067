"""The story the estate tells: cluster `lab`, the shop that runs on it, and the trouble its checkout is in."""
