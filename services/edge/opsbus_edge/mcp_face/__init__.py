"""The MCP SDK's side of the edge: both protocol eras over HTTP and stdio. No tool, resource or prompt is owned here."""
