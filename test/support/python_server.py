"""A server on the official Python SDK (package mcp), whose class has another name since version 2.

Usage: python_server.py [PORT]   (over stdio, or at http://127.0.0.1:PORT/mcp)
"""

import sys

from pydantic import BaseModel

try:
    from mcp.server.mcpserver import Context, MCPServer

    def serve_http(server, port):
        server.run(transport="streamable-http", port=port)

except ModuleNotFoundError:
    from mcp.server.fastmcp import Context
    from mcp.server.fastmcp import FastMCP as MCPServer

    def serve_http(server, port):
        server.settings.port = port
        server.run(transport="streamable-http")


class Choice(BaseModel):
    color: str


server = MCPServer("python")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
async def ask(ctx: Context) -> str:
    """Asks the user for a color."""
    answer = await ctx.elicit(message="Which color?", schema=Choice)
    return f"chose {answer.data.color}" if answer.action == "accept" else answer.action


if len(sys.argv) > 1:
    serve_http(server, int(sys.argv[1]))
else:
    server.run(transport="stdio")
