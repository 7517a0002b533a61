"""Seconds per step, epoch and evaluation, beside what others do on the same machine."""
