"""Run an STTS bundle: frames and a question in, text out."""
