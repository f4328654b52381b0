"""Reqplane: the request plane of a model server, with its transports as plugins.

async with reqplane.connect() as runtime:
    await runtime.endpoint("default.backend.generate").serve_endpoint(handler)          # a worker

    client = await runtime.endpoint("default.backend.generate").client()                # a frontend
    async for item in client.generate({"n": 3}):
        print(item)
"""

from reqplane.annotated import AnnotatedItem
from reqplane.client import Client
from reqplane.context import Context
from reqplane.errors import (
    CannotConnect,
    DeadlineExceeded,
    DeliveryUnknown,
    DiscoveryError,
    DiscoveryUnavailable,
    FrameTooLarge,
    HandlerFailed,
    InvalidFrame,
    LeaseLost,
    NoInstances,
    NotAllowed,
    NotDelivered,
    PayloadError,
    PluginBroken,
    PluginConflict,
    PluginError,
    PluginNotFound,
    ReqplaneError,
    RequestBroken,
    RequestError,
    RequestRefused,
    ResponseError,
    SettingsError,
    StreamBroken,
    UnknownEndpoint,
    WireError,
    WorkerBusy,
    WorkerDraining,
    WrongInstance,
)
from reqplane.hookspecs import hookimpl
from reqplane.model import EndpointId, Instance
from reqplane.push_router import PushRouter
from reqplane.request_stream import RequestStream
from reqplane.routing import RouterMode
from reqplane.runtime import DistributedRuntime, Endpoint, connect
from reqplane.stream import Stream

__all__ = [
    "AnnotatedItem",
    "CannotConnect",
    "Client",
    "Context",
    "DeadlineExceeded",
    "DeliveryUnknown",
    "DiscoveryError",
    "DiscoveryUnavailable",
    "DistributedRuntime",
    "Endpoint",
    "EndpointId",
    "FrameTooLarge",
    "HandlerFailed",
    "Instance",
    "InvalidFrame",
    "LeaseLost",
    "NoInstances",
    "NotAllowed",
    "NotDelivered",
    "PayloadError",
    "PluginBroken",
    "PluginConflict",
    "PluginError",
    "PluginNotFound",
    "PushRouter",
    "ReqplaneError",
    "RequestBroken",
    "RequestError",
    "RequestRefused",
    "RequestStream",
    "ResponseError",
    "RouterMode",
    "SettingsError",
    "Stream",
    "StreamBroken",
    "UnknownEndpoint",
    "WireError",
    "WorkerBusy",
    "WorkerDraining",
    "WrongInstance",
    "connect",
    "hookimpl",
]
