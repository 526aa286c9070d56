"""FAQs and documents: what the bot may quote."""
