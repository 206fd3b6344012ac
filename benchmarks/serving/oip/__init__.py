"""Real clients of the Open Inference Protocol, in their own environment (`make oip-clients`)."""
