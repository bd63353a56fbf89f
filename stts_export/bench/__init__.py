"""Time bundles beside the same work in torch and in transformers, and show the result as tables and pictures."""
