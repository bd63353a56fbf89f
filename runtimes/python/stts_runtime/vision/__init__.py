"""From frames to features: which groups stay, how their patches are packed, and the engines that see them."""
