"""Compile STTS-pruned video vision-language models into verified bundles; see README.md for the flow."""
