"""How the operator does with many resources, measured from outside; see the README.md beside this package."""
