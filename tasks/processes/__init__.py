"""The only room that starts a process: children that end with their parent, and calls in them."""
