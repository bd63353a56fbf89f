"""Show in minutes what the project does: build the model that ships, verify it, ask it beside random pruning."""
