"""Uses a server with the official Python SDK and prints what it saw as one JSON object.

Usage: client.py URL KEY MODE   (MODE: legacy, auto or a revision)
"""

import json
import sys

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


async def attempt(call):
    """The text of a result, or the text of what was raised."""
    try:
        result = await call
    except Exception as error:  # noqa: BLE001 - whatever it is, it is shown
        return f"raised {type(error).__name__}: {error}"
    return ("error " if result.is_error else "") + "".join(part.text for part in result.content)


async def use(client):
    steps = []

    async def on_progress(progress, total, message):
        steps.append(progress)

    return {
        "revision": client.protocol_version,
        "tools": [tool.name for tool in (await client.list_tools()).tools],
        "allowed": await attempt(client.call_tool("echo", {"text": "größe"})),
        "denied": await attempt(client.call_tool("destroy", {"id": "1"})),
        "limited": [await attempt(client.call_tool("fail", {})) for _ in range(2)],
        "invalid": await attempt(client.call_tool("echo", {"text": {"secret": "hunter2"}})),
        "progress": [await attempt(client.call_tool("progress", {"steps": 3}, progress_callback=on_progress)), steps],
        "cancelled": await attempt(client.call_tool("slow", {"milliseconds": 3000}, read_timeout_seconds=0.3)),
        "after": await attempt(client.call_tool("echo", {"text": "still here"})),
    }


async def main(url, key, mode):
    headers = {"authorization": f"Bearer {key}"}
    seen = {}
    async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
        async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
            seen = await use(client)
        async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
            seen["again"] = await attempt(client.call_tool("echo", {"text": "back"}))
    print(json.dumps(seen))


anyio.run(main, *sys.argv[1:])
