"""NetBox 4.x over its REST API: its answers, how they map onto assets, import, export, and the backend that asks it.

Own code over aiohttp, no pynetbox: that one is synchronous, and takes the token to wherever a page's `next` points.
"""
