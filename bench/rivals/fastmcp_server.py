"""A FastMCP server that answers by itself: no bus, no backend."""

from fastmcp import FastMCP

from bench.rivals.serve import serve

server: FastMCP = FastMCP("bench")


@server.tool
def demo_echo(text: str) -> dict[str, str]:
    """The text again."""
    return {"text": text}


if __name__ == "__main__":
    serve(server.http_app(stateless_http=True, json_response=True))
