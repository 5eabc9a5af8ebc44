"""`python -m edge_runtime.release`: runs the tool from a source tree."""

from edge_runtime.release.tool import main

if __name__ == "__main__":
    main()
