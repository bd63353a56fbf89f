"""A bundle on a hub: which of its files go there, and the card that says what it is."""
