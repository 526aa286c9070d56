"""Sessions: what a sign-in opens, the tokens that carry it, and how it ends."""
