"""`python -m edge_runtime.release`: the tool out of a source tree."""

from edge_runtime.release.tool import main

if __name__ == "__main__":
    main()
