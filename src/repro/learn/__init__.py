"""Train networks, reproducibly."""
