"""The servers that speak W&B's API: names that need none of W&B's or Sacred's packages."""

CLOUD = "https://api.wandb.ai"
ENDPOINT_NAME = "grok sweep endpoint"  # what `grok sweep serve` answers at HEALTH_PATH
HEALTH_PATH = "/healthz"
