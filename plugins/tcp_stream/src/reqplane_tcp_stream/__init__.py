"""Reqplane's response plane: the worker calls home by TCP and streams the answer back."""
