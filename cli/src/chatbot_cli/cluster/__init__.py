"""`kubectl chatbot`: the bots of a cluster, from a terminal. Everything it asks or changes goes through kubectl."""
