"""The ChatbotDeployment resource, shared by the operator and the command line."""
