"""Gradient flows: the paths that training follows in the limit of small steps."""
