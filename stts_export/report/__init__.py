"""Show people what happened: pictures and tables of what others measured."""
