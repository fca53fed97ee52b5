"""Nearest neighbours, communities, and who stands for them."""
