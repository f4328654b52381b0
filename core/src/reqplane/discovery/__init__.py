"""Where workers register and frontends find them: the built-in backends."""
