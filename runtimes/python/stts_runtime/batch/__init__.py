"""Many questions about many clips: a file of questions in, a file of answers out, on this machine or on many."""
