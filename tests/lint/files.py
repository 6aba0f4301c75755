"""Prints the repository's files that match the given patterns, one a line: for shell scripts."""
import sys

from lib import tracked

found = tracked(*sys.argv[1:])
print("\n".join(found))
sys.exit(0 if found else 1)
