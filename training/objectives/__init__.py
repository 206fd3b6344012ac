"""What a run minimises over all exits."""

from training.objectives.joint import joint_loss

__all__ = ["joint_loss"]
