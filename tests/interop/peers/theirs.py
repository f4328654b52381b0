"""What the versions of Dynamo differ in, for its worker and its client.

Run by an interpreter that has `ai-dynamo-runtime`; imported by name, since ours does not have it.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import os
import sys
from typing import Any

VERSION = importlib.metadata.version("ai-dynamo-runtime")
SERVING_RETURNS_EARLY = VERSION.startswith("0.7.")
"""`serve_endpoint` returns while requests still run: a program has to wait for them itself."""
_api: Any = importlib.import_module("dynamo.runtime")
Context: Any = _api.Context


def hello() -> dict[str, Any]:
    """Who this is, from the process itself."""
    return {
        "pid": os.getpid(),
        "side": "dynamo",
        "version": VERSION,
        "library": importlib.import_module("dynamo._core").__file__,
        "python": sys.version.split()[0],
    }


def runtime() -> Any:
    """A runtime as this version's `dynamo_worker` makes it."""
    loop = asyncio.get_running_loop()
    plane, discovery = os.environ["DYN_REQUEST_PLANE"], os.environ["DYN_DISCOVERY_BACKEND"]
    if VERSION.startswith("0.7."):
        return _api.DistributedRuntime(loop, discovery, False)  # the plane is read from the variable
    if VERSION.startswith("0."):
        return _api.DistributedRuntime(loop, discovery, plane, plane == "nats")
    return _api.DistributedRuntime(loop, discovery, plane)


async def endpoint(runtime: Any, path: str, serving: bool = False) -> Any:
    """An endpoint by its path; 0.7 wants a service to be made first where it is served."""
    if hasattr(runtime, "endpoint"):
        return runtime.endpoint(path)
    namespace, component_name, name = path.split(".")
    component = runtime.namespace(namespace).component(component_name)
    if serving and hasattr(component, "create_service"):
        await component.create_service()
    return component.endpoint(name)


def describe(context: Any) -> dict[str, Any]:
    """A context's id and what it shows of a trace."""
    shown = ("trace_id", "span_id", "parent_span_id")
    return {"id": context.id(), "trace": {name: getattr(context, name) for name in shown}}


def unsent(error: Exception) -> bool:
    """Whether it is Dynamo's way to say that a worker left before it had the request.

    Its client gives up whatever has no response stream yet when the worker goes from discovery, and its
    programs are meant to send that again.
    """
    gone = "Worker disconnected before response stream", "Worker removed before request could be sent"
    return any(text in str(error) for text in gone)
