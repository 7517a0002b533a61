"""Which fused kernels are there? One module a kind of device, each imported where it can run."""
