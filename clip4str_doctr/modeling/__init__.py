"""The parameters: two towers, two decoders, and the recogniser made of them."""
