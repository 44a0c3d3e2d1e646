"""What `ci/gpu` measures on a machine with a CUDA device, part by part, into one report."""
