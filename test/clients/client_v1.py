"""Uses a server with the official Python SDK 1.x and prints what it saw as one JSON object.

Usage: client_v1.py URL KEY [PREFIX URI_PREFIX]   (the prefixes are those of /mcp)

Once it has subscribed to a resource it says SUBSCRIBED, and waits for an update.
"""

import json
import sys

import anyio
from mcp import ClientSession, types
from mcp.client.streamable_http import streamablehttp_client


async def attempt(call):
    """The text of a result, or the text of what was raised."""
    try:
        with anyio.fail_after(10):
            result = await call
    except Exception as error:  # noqa: BLE001 - whatever it is, it is shown
        return f"raised {type(error).__name__}: {error}"
    return ("error " if result.isError else "") + "".join(part.text for part in result.content)


async def answer(context, params):
    return types.ElicitResult(action="accept", content={"choice": "green"})


async def use(session, name, uri, updates):
    steps = []

    async def on_progress(progress, total, message):
        steps.append(progress)

    tools = [tool.name for tool in (await session.list_tools()).tools]
    seen = {
        "tools": tools,
        "allowed": await attempt(session.call_tool(name + "echo", {"text": "größe"})),
        "asked": await attempt(session.call_tool(name + "elicit", {})),
        "progress": [
            await attempt(session.call_tool(name + "progress", {"steps": 3}, progress_callback=on_progress)),
            steps,
        ],
    }
    resource = (await session.read_resource(uri + "test://a")).contents[0].text
    await session.subscribe_resource(uri + "test://a")
    print("SUBSCRIBED", flush=True)
    with anyio.fail_after(15):
        while not updates:
            await anyio.sleep(0.05)
    seen["heard"] = [resource, updates[0]]
    seen["denied"] = await attempt(session.call_tool(name + "destroy", {"id": "1"}))
    seen["after"] = await attempt(session.call_tool(name + "echo", {"text": "still here"}))
    return seen


async def main(url, key, name="", uri=""):
    updates = []

    async def on_message(message):
        if isinstance(message, types.ServerNotification):
            if isinstance(message.root, types.ResourceUpdatedNotification):
                updates.append(str(message.root.params.uri))

    headers = {"authorization": f"Bearer {key}"}
    async with streamablehttp_client(url, headers=headers) as (read, write, _):
        async with ClientSession(read, write, elicitation_callback=answer, message_handler=on_message) as session:
            revision = (await session.initialize()).protocolVersion
            seen = {"revision": revision, **await use(session, name, uri, updates)}
    print(json.dumps(seen))


anyio.run(main, *sys.argv[1:])
