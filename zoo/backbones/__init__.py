"""Classic classification networks, each also a feature extractor that names its stages."""
