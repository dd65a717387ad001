"""What a model is cut into, and how parts are trained on devices of their own."""
