"""The trained model in use: what it says of pictures. The server that MLflow runs is in `tracking`."""
