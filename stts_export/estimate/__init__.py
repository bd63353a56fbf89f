"""What a build will take on a target, predicted before anything is built: memory, time, and whether it fits."""
