"""Edges that are measured: the whole one, and some with a part taken out."""
