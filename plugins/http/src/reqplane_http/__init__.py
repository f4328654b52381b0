"""Reqplane's http request plane."""
