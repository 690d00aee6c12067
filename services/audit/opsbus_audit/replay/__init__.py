"""Replaying the record: what a terminal shows, what a program reads, what a consumer in development gets."""
