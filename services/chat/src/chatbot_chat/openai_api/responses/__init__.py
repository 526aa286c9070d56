"""`/v1/responses`. Stored ones are turns of the native face, in OpenAI's words; the others are completions."""
