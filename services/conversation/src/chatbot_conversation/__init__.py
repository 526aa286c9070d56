"""History, knowledge and the vector store of the platform."""
