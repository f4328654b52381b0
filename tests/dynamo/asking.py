"""Tells the signatures of Dynamo's classes and functions, as JSON.  Run by an interpreter that has its wheel.

    python asking.py '[classes, functions, modules]'

Names and parameters are those that the running wheel tells.  What it tells as `...` is a default of its Rust
code; those are taken from its stubs.
"""

import ast
import importlib
import inspect
import json
import sys
from pathlib import Path

core = importlib.import_module("dynamo._core")
stubs = {
    node.name: node
    for node in ast.parse(Path(core.__file__).with_name("_core.pyi").read_text()).body
    if isinstance(node, ast.ClassDef)
}


def told(function, stub=None):
    """Its parameters as text; None if it is no function, or does not tell."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    stated = defaults(stub)
    shown = []
    for one in parameters:
        if one.name in ("self", "cls"):
            continue
        default = stated.get(one.name, ...) if one.default is ... else one.default
        kind = one.POSITIONAL_OR_KEYWORD if one.kind is one.POSITIONAL_ONLY else one.kind
        shown.append(one.replace(default=default, annotation=one.empty, kind=kind))
    return str(inspect.Signature(shown))


def defaults(stub):
    """Those that a stub states, by parameter."""
    if stub is None:
        return {}
    arguments, values = stub.args.args, stub.args.defaults
    pairs = zip(arguments[len(arguments) - len(values) :], values, strict=True)
    return {argument.arg: ast.literal_eval(value) for argument, value in pairs}


def members(cls):
    """Of a class, each public name's parameters; of an exception, what it is one of."""
    if issubclass(cls, BaseException):
        return {"bases": ", ".join(base.__name__ for base in cls.__mro__[1:-1])}
    stub = stubs.get(cls.__name__)
    methods = {node.name: node for node in (stub.body if stub else ()) if isinstance(node, FUNCTIONS)}
    shown = {name: told(getattr(cls, name), methods.get(name)) for name in dir(cls) if name[0] != "_"}
    made = told(cls)
    return shown if made is None else {"__init__": made, **shown}


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

if __name__ == "__main__":
    classes, functions, modules = json.loads(sys.argv[1])
    public = [*map(importlib.import_module, modules), core]
    found = {
        name: members(next(getattr(module, name) for module in public if hasattr(module, name)))
        for name in classes
    }
    found[""] = {name: told(getattr(public[0], name)) for name in functions}
    print(json.dumps(found))
