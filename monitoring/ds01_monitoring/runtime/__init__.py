"""The two ways of running the stack, behind one Protocol."""
