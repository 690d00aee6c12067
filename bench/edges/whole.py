"""The edge as it is."""

from opsbus_edge.app import main

if __name__ == "__main__":
    main()
