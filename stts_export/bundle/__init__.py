"""Write the artifact: a directory that is either whole or not there, with weights that its graphs share."""
