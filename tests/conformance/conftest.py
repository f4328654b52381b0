"""The suite's own modules are run by name, `--pyargs reqplane_conformance`, and by nothing else."""

collect_ignore = ["src"]
