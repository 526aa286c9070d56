"""The operator: `ChatbotDeployment` resources become running platforms, and stay so."""
