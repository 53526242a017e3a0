"""Where the cells of a sweep are computed: here, on this machine's devices, or in a work pool."""
