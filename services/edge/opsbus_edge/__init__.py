"""The edge: one way in for MCP clients, one way through the gates, workers behind it on the bus. It owns no tool."""

from importlib.metadata import version

__version__ = version("opsbus-edge")
