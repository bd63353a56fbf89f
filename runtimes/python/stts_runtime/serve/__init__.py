"""A bundle behind an OpenAI-compatible server: requests, clips read in child processes, a queue, one model, answers."""
