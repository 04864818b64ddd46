"""The trained model for use elsewhere, as an ONNX file, and the proof that it answers as before."""
