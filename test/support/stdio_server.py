"""A stdio server on the official Python SDK (package mcp)."""

from mcp.server.fastmcp import FastMCP

server = FastMCP("python")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


server.run(transport="stdio")
