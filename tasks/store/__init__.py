"""Content-addressed artifacts, the steps that name them, atomic files, and the home they lie in."""
