"""From a sweep file to its graph of steps; computes nothing."""
