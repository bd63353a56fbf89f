"""Where clips come from: each domain turns a seed into frames and their truth."""
