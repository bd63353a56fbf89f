"""From a question and features to text: prompt, tokens, cache, and the decoder's loop."""
