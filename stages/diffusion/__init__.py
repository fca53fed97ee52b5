"""Autoencoders, denoisers, their losses, schedules and samplers."""
