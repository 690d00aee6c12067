"""For the tests of workers: a real bus, a worker in process on it, and a caller that plays the edge."""
