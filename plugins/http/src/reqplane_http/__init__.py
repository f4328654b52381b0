"""Reqplane's http request plane.

`HttpEndpoint` is the worker's side, one endpoint on the process's HTTP server; `HttpTransport` is the plane.
"""

from reqplane_http.server import HttpEndpoint
from reqplane_http.transport import HttpTransport

__all__ = ["HttpEndpoint", "HttpTransport"]
