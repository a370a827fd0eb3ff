"""Take weights out of a network and say what it cost."""
