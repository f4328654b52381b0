"""A codec, a router policy and a discovery backend, as somebody else would write them."""
