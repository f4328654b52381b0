"""The guide's "For Python Components", word for word: variables, then the service."""

import os

os.environ["DYN_REQUEST_PLANE"] = "http"
os.environ["DYN_HTTP_RPC_HOST"] = "0.0.0.0"
os.environ["DYN_HTTP_RPC_PORT"] = "8081"

# Then start your service
from work import run

run()
