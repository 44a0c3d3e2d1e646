"""The CPU backend: numba kernels that release the GIL, handed out to worker threads of our own."""
