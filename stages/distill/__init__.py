"""Coresets, and images that are learned by gradient, distribution and trajectory matching."""
