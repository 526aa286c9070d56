"""The face that OpenAI's clients see: the assistant and the raw models, stateless."""
