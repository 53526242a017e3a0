"""Where text comes from, and its cutting into token windows."""
