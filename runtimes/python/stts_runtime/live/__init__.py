"""Questions about what is happening now: frames as they come, a window that rolls over them, an answer each time."""
