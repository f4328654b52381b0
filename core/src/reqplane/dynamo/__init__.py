"""NVIDIA Dynamo's Python API on Reqplane: what a program written for `dynamo.runtime` imports.

    from reqplane.dynamo import DistributedRuntime, dynamo_worker      # was: from dynamo.runtime import …

Names, parameters, defaults and what callers see are those of ai-dynamo-runtime 1.6.1, and the chain
`runtime.namespace("x").component("y").endpoint("z")` of 0.7 works too.  Methods are described where Dynamo
does; here stands what differs.  docs/dynamo-programs.md has what runs unchanged and what does not; what does
not raises NotImplementedError where it is called.  `reqplane.dynamo.exceptions` is `dynamo.llm.exceptions`,
`reqplane.dynamo.logging` is `dynamo.runtime.logging`.
"""

from reqplane.dynamo.annotated import Annotated
from reqplane.dynamo.client import Client
from reqplane.dynamo.context import Context
from reqplane.dynamo.decorators import dynamo_endpoint, dynamo_worker
from reqplane.dynamo.endpoint import Endpoint
from reqplane.dynamo.instance import Instance
from reqplane.dynamo.request_stream import PyAsyncRequestStream
from reqplane.dynamo.router_mode import RouterMode
from reqplane.dynamo.runtime import Component, DistributedRuntime, Namespace
from reqplane.dynamo.unary import UnaryClient, serve_unary_endpoint

__all__ = [
    "Annotated",
    "Client",
    "Component",
    "Context",
    "DistributedRuntime",
    "Endpoint",
    "Instance",
    "Namespace",
    "PyAsyncRequestStream",
    "RouterMode",
    "UnaryClient",
    "dynamo_endpoint",
    "dynamo_worker",
    "serve_unary_endpoint",
]
