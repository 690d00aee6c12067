"""The Kubernetes API emulator: an object store, the HTTP face over it, and the controllers that act on it."""
