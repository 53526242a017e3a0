"""The rooms of the pipeline; ``tasks/README.md`` is their picture."""
