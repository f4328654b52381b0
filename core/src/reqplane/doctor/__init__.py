"""`reqplane doctor`: looks at settings, plugins, addresses, discovery and workers, and says what to type."""
