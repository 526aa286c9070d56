"""`chatbot`: the platform from a terminal."""
