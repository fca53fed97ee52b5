"""Whole slides: where tiles lie, what is tissue, what is fit to be used, what an annotation says."""
