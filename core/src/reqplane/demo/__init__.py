"""The demonstration: a tiny language model behind a frontend and three workers."""
