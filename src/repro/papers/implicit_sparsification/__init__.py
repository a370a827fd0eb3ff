"""Rerun of Jacobs & Burkholz, *Mask in the Mirror: Implicit Sparsification* (ICLR 2025; arXiv 2408.09966)."""
