"""The mathematics in torch, as the paper says it: what graphs, kernels and other runtimes are checked against."""
