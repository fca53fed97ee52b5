"""Copies, and the verdict."""
