"""The edge without its JWTs: requests carry none and are served as an admin's, by settings."""

from bench.edges.without import run
from opsbus_edge.settings import ANONYMOUS_IN_WORDS

SETTINGS = {"allow_anonymous": ANONYMOUS_IN_WORDS, "anonymous_roles": '["admin"]'}

if __name__ == "__main__":
    run(settings=SETTINGS)
