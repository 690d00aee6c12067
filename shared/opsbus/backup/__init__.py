"""Backup and restore of a platform: streams and buckets as the server stores them, stores row by row.

snapshot.py speaks the server's snapshot protocol, stores.py finds the services' stores, folder.py knows the layout.
"""
