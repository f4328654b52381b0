"""The application: what the guide's workers serve.  It knows of no plane.

`reqplane serve work:generate PATH`, `python work.py [PATH]` and `python -m work [PATH]` run it.
"""

import asyncio
import os
import sys

import reqplane


async def generate(request, context):
    """Who answers, and what came with the call; then `n` numbers, a `pause` of seconds before each."""
    yield {"pid": os.getpid(), "id": context.id, "headers": dict(context.headers)}
    for i in range(request.get("n", 0)):
        await asyncio.sleep(request.get("pause", 0))
        yield i


async def main(path):
    async with reqplane.connect() as runtime:
        await runtime.endpoint(path).serve_endpoint(generate)


def run():
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "default.backend.generate"))


if __name__ == "__main__":
    run()
