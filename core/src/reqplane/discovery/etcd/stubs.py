"""etcd3, made to run beside today's protobuf.

The last release of etcd3 is of 2020, and its generated modules can't be imported beside protobuf 4 or newer.
But the descriptors that stand in them are good, so the messages and stubs are made of these anew, and put
where `import etcd3` looks for them; etcd3 itself stays as it is.  They get a pool of their own, because in
the common one another etcd client of the same process would have the same names.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

_VERSION = "0.12.0"
_STUBS = "etcd3.etcdrpc"
_CURE = 'pip install --force-reinstall "reqplane[etcd]"'
_importing = threading.Lock()


def installed() -> bool:
    """Whether what this backend needs is there; imports nothing."""
    return all(importlib.util.find_spec(name) is not None for name in ("etcd3", "grpc"))


def import_etcd3() -> Any:
    """The module; ImportError with what is wrong if it is not the one that we know."""
    with _importing:
        _check_distribution()
        if "etcd3" not in sys.modules:  # else somebody has made it run already, and has its stubs
            _prepare()
        return importlib.import_module("etcd3")


def _check_distribution() -> None:
    """There are forks that have the same import name, and lie over its files."""
    owners = set(importlib.metadata.packages_distributions().get("etcd3", ()))
    if others := sorted(owners - {"etcd3"}):
        raise ImportError(
            f"the package etcd3 belongs to {' and '.join(others)}, wanted the distribution etcd3 {_VERSION}: "
            f"`pip uninstall {' '.join(others)}`, then `{_CURE}`"
        )
    if not owners:
        raise ImportError(f"etcd3 is not installed: `{_CURE}`")
    if (version := importlib.metadata.version("etcd3")) != _VERSION:
        raise ImportError(f"wanted etcd3 {_VERSION}, found {version}: `{_CURE}`")


def _prepare() -> None:
    from google.protobuf import descriptor_pb2, descriptor_pool

    spec = importlib.util.find_spec("etcd3")
    if spec is None or spec.origin is None:
        raise ImportError(f"etcd3 can't be found: `{_CURE}`")
    folder = Path(spec.origin).parent / "etcdrpc"
    pool: Any = descriptor_pool.DescriptorPool()
    module: Any = ModuleType(_STUBS, "Messages and stubs, made of etcd3's descriptors by Reqplane.")
    module.__path__ = []
    for name in ("kv", "auth", "rpc"):  # each needs those before it
        file = descriptor_pb2.FileDescriptorProto.FromString(_descriptor(folder / f"{name}_pb2.py"))
        pool.Add(file)
        _fill(module, pool.FindFileByName(file.name))
    sys.modules[_STUBS] = module


def _descriptor(path: Path) -> bytes:
    """What stands behind `serialized_pb=` in a generated module."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.keyword) and node.arg == "serialized_pb" and isinstance(node.value, ast.Call):
            return str(ast.literal_eval(node.value.args[0])).encode("latin-1")
    raise ImportError(f"there is no descriptor in {path}: `{_CURE}`")


def _fill(module: Any, file: Any) -> None:
    from google.protobuf import message_factory

    for name, message in file.message_types_by_name.items():
        setattr(module, name, message_factory.GetMessageClass(message))
    for enum in file.enum_types_by_name.values():
        for value in enum.values:
            setattr(module, value.name, value.number)
    for name, service in file.services_by_name.items():
        setattr(module, f"{name}Stub", _stub(service))


def _stub(service: Any) -> type[Any]:
    """What gRPC's compiler would have generated for a client."""
    from google.protobuf import message_factory

    def connect(self: Any, channel: Any) -> None:
        for method in service.methods:
            request = message_factory.GetMessageClass(method.input_type)
            answer = message_factory.GetMessageClass(method.output_type)
            kinds = ["stream" if streams else "unary" for streams in _streams(method)]
            call = getattr(channel, "_".join(kinds))(
                f"/{service.full_name}/{method.name}",
                request_serializer=request.SerializeToString,
                response_deserializer=answer.FromString,
            )
            setattr(self, method.name, call)

    return type(f"{service.name}Stub", (), {"__init__": connect})


def _streams(method: Any) -> tuple[bool, bool]:
    return method.client_streaming, method.server_streaming
