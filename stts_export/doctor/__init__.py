"""What can be built on this machine, what is missing for the rest, and the line that brings it."""
