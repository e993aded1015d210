"""Rewards: what an answer is worth, from rules, programs, reward models and functions of the user's.

Nothing is imported here: the processes of `dsm.rewards.worker` come through this file and must start at once.
"""
