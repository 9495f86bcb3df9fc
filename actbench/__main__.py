"""`python -m actbench` is the command line."""

from actbench.cli import main

if __name__ == "__main__":
    main()
