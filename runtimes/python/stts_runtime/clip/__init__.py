"""From a video file, or an array, to the frames that the model looks at and the times they are told with."""
