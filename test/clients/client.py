"""Uses a server with the official Python SDK 2.x and prints what it saw as one JSON object.

Usage: client.py URL KEY MODE [PREFIX URI_PREFIX]   (MODE: legacy, auto or a revision; the prefixes are those of /mcp)

Of a server with subscriptions it also says SUBSCRIBED, and then waits for an update.
"""

import json
import sys

import anyio
import httpx2
from mcp import Client, types
from mcp.client.streamable_http import streamable_http_client


async def attempt(call):
    """The text of a result, or the text of what was raised."""
    try:
        result = await call
    except Exception as error:  # noqa: BLE001 - whatever it is, it is shown
        return f"raised {type(error).__name__}: {error}"
    return ("error " if result.is_error else "") + "".join(part.text for part in result.content)


async def answer(context, params):
    return types.ElicitResult(action="accept", content={"choice": "green"})


async def hear(client, uri, updates):
    """What a session brings besides answers."""
    resource = (await client.read_resource(uri)).contents[0].text
    await client.subscribe_resource(uri)
    print("SUBSCRIBED", flush=True)
    with anyio.fail_after(15):
        while not updates:
            await anyio.sleep(0.05)
    await client.unsubscribe_resource(uri)
    return [resource, updates[0]]


async def use(client, name):
    steps = []

    async def on_progress(progress, total, message):
        steps.append(progress)

    return {
        "revision": client.protocol_version,
        "tools": [tool.name for tool in (await client.list_tools()).tools],
        "allowed": await attempt(client.call_tool(name + "echo", {"text": "größe"})),
        "denied": await attempt(client.call_tool(name + "destroy", {"id": "1"})),
        "limited": [await attempt(client.call_tool(name + "fail", {})) for _ in range(2)],
        "invalid": await attempt(client.call_tool(name + "echo", {"text": {"secret": "hunter2"}})),
        "progress": [await attempt(client.call_tool(name + "progress", {"steps": 3}, progress_callback=on_progress)), steps],
        "cancelled": await attempt(client.call_tool(name + "slow", {"milliseconds": 3000}, read_timeout_seconds=0.3)),
        "after": await attempt(client.call_tool(name + "echo", {"text": "still here"})),
    }


async def main(url, key, mode, name="", uri=""):
    headers = {"authorization": f"Bearer {key}"}
    updates = []

    async def on_message(message):
        if isinstance(message, types.ResourceUpdatedNotification):
            updates.append(str(message.params.uri))

    async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
        transport = streamable_http_client(url, http_client=http)
        async with Client(transport, mode=mode, elicitation_callback=answer, message_handler=on_message) as client:
            seen = await use(client, name)
            resources = client.server_capabilities.resources
            if resources and resources.subscribe:
                seen["asked"] = await attempt(client.call_tool(name + "elicit", {}))
                seen["heard"] = await hear(client, uri + "test://a", updates)
        async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
            seen["again"] = await attempt(client.call_tool(name + "echo", {"text": "back"}))
    print(json.dumps(seen))


anyio.run(main, *sys.argv[1:])
