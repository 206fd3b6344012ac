"""Run requests through the stages: scheduling, deadlines, overload."""
