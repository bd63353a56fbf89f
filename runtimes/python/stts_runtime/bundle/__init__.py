"""What is on disk: manifest, graph contracts and engine sets, and how a bundle is opened, checked and replaced."""
