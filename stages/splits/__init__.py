"""Roles by group."""
