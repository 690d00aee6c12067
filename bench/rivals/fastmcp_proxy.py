"""A FastMCP proxy in front of a FastMCP server (``OPSBUS_BENCH_BACKEND``)."""

import os

from fastmcp.server.server import create_proxy

from bench.rivals.serve import serve

if __name__ == "__main__":
    serve(create_proxy(os.environ["OPSBUS_BENCH_BACKEND"]).http_app(stateless_http=True, json_response=True))
