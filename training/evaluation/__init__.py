"""Evaluation: accuracy and flops of exits and thresholds on labelled images."""
