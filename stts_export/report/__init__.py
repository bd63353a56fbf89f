"""Show people what happened: pictures of what was pruned, and tables of what was measured."""
