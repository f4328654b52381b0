"""Reqplane's nats request plane."""
