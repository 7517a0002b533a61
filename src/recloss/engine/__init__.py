"""How is a step fast? Draws, scores, optimiser and ranking, in kernels for CPU and CUDA."""
