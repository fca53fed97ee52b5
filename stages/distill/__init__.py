"""Coresets, and later gradient, distribution and trajectory matching."""
